"""The published sizes fit together; how many parameters they have is tested with the network."""

import pytest

from blip_edge.models.config import ARCHITECTURES, Architecture, BlipConfig
from blip_edge.models.presets import Preset, preset


@pytest.mark.parametrize("name", ["base", "large"])
@pytest.mark.parametrize("architecture", ARCHITECTURES.values())
def test_heads_are_64_wide_and_towers_fit(name: Preset, architecture: Architecture) -> None:
    config = preset(name, architecture, image_size=224)
    assert config.architecture == architecture
    assert config.vision_config.image_size == 224
    assert config.vision_config.head_width == config.text_config.head_width == 64
    assert config.text_config.encoder_hidden_size == config.vision_config.hidden_size
    assert config.decoder_config.hidden_size == 768


def test_the_larger_image_tower_trains_with_drop_path() -> None:
    assert preset("base").vision_config.drop_path_rate == 0.0
    assert preset("large").vision_config.drop_path_rate == 0.1


def test_base_is_what_a_configuration_is_by_default() -> None:
    assert preset("base") == BlipConfig()
