"""The published sizes by name: BLIP with ViT-B/16 and with ViT-L/16 (paper, section 4.1).

Both have the text tower of BERT base; the larger one's cross-attention reads wider image tokens.
"""

from typing import Literal

from blip_edge.models.config import Architecture, BlipConfig, TextConfig, VisionConfig

__all__ = ["Preset", "preset"]

Preset = Literal["base", "large"]


def preset(
    name: Preset,
    architecture: Architecture = "BlipForConditionalGeneration",
    *,
    image_size: int = 384,
) -> BlipConfig:
    """A published network's sizes, for pictures of `image_size` pixels.

    BLIP pre-trains at 224, tunes at 384 and answers questions at 480. The larger image tower is
    trained with a drop path of 0.1.
    """
    if name == "base":
        vision = VisionConfig(image_size=image_size)
    else:
        vision = VisionConfig(
            image_size=image_size,
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            drop_path_rate=0.1,
        )
    text = TextConfig(encoder_hidden_size=vision.hidden_size)
    return BlipConfig(vision_config=vision, text_config=text, architecture=architecture)
