"""Lively models of the tasks other than captioning, made of the captioner's sizes."""

from dataclasses import replace

import torch
from torch import nn

from blip_edge.models import Model, build
from blip_edge.models.config import Architecture
from blip_edge.runtime.engine import Task

__all__ = ["KINDS", "trained"]

KINDS: dict[Task, tuple[Architecture, str]] = {
    "retrieval": ("BlipForImageTextRetrieval", "r_mean"),
    "vqa": ("BlipForQuestionAnswering", "vqa_accuracy"),
    "nlvr2": ("BlipForImagesAndTextClassification", "accuracy"),
}
"""By task: its architecture, and the metric that it is judged by."""


def trained(captioner: Model, task: Task) -> Model:
    """A model of `task` with large random weights."""
    torch.manual_seed(3)
    config = replace(captioner.config, architecture=KINDS[task][0])
    blip = build(config).eval()
    for name, parameter in blip.named_parameters():
        if "norm" not in name.lower():
            nn.init.normal_(parameter, std=0.2)
    return captioner.with_blip(blip)
