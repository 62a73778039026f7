"""BLIP's network: a ViT, a BERT-like encoder and decoder, and the folder they live in."""

from blip_edge.models.blip import Blip, build, count_parameters
from blip_edge.models.config import BlipConfig, TextConfig, VisionConfig
from blip_edge.models.folder import Model, load_model, save_model

__all__ = [
    "Blip",
    "BlipConfig",
    "Model",
    "TextConfig",
    "VisionConfig",
    "build",
    "count_parameters",
    "load_model",
    "save_model",
]
