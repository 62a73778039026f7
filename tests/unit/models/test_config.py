"""config.json: what is written is read back, what cannot be is one line that names the file."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import BlipConfig, TextConfig, VisionConfig
from tests import tiny


def through_json(config: BlipConfig) -> BlipConfig:
    return BlipConfig.from_json(json.loads(json.dumps(config.to_json())), source="config.json")


@pytest.mark.parametrize(
    "architecture",
    ["BlipForConditionalGeneration", "BlipForImageTextRetrieval", "BlipForPreTraining"],
)
def test_a_config_comes_back(architecture: Any) -> None:
    config = tiny.config(architecture)
    assert through_json(config) == config


def test_a_pruned_config_comes_back_with_its_lists() -> None:
    vision = VisionConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=(1, 3),
        intermediate_size=(8, 24),
        head_dim=8,
    )
    text = TextConfig(
        hidden_size=16,
        encoder_hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=(2, 4),
        cross_attention_heads=(1, 4),
        intermediate_size=40,
        head_dim=4,
    )
    config = BlipConfig(vision_config=vision, text_config=text)
    assert through_json(config) == config
    assert config.model_type == "blip_edge"
    assert (vision.heads, text.cross_heads, text.ffn_widths) == ((1, 3), (1, 4), (40, 40))


def test_only_what_transformers_can_hold_is_called_blip() -> None:
    """A folder that says "blip" is opened with classes that have one head count a tower."""
    config = tiny.config()
    text, vision = config.text_config, config.vision_config
    assert config.model_type == "blip"
    others = [
        replace(config, architecture="BlipForPreTraining"),
        replace(config, text_config=replace(text, cross_attention_heads=3)),
        replace(config, text_config=replace(text, num_attention_heads=3, head_dim=4)),
        replace(config, vision_config=replace(vision, intermediate_size=(48, 40))),
    ]
    assert [other.model_type for other in others] == ["blip_edge"] * 4


def test_head_counts_and_epsilons_are_written_out() -> None:
    """The classes of `transformers` would fill in others than released BLIP has."""
    written = BlipConfig().to_json()
    assert written["vision_config"]["num_attention_heads"] == 12
    assert written["vision_config"]["layer_norm_eps"] == 1e-6
    assert written["text_config"]["num_attention_heads"] == 12
    assert written["text_config"]["layer_norm_eps"] == 1e-12


@pytest.mark.parametrize(("size", "tokens"), [(224, 197), (384, 577), (480, 901)])
def test_image_tokens_are_blips(size: int, tokens: int) -> None:
    assert VisionConfig(image_size=size).num_tokens == tokens


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"image_size": 100}, "not a multiple of patch_size 16"),
        ({"patch_size": 0}, "must be positive"),
        ({"num_attention_heads": 7}, "does not split into 7 heads"),
        ({"num_attention_heads": 0}, "does not split into 0 heads"),
        ({"num_attention_heads": (6, 6), "head_dim": 64}, "lists 2 layers, the tower has 12"),
        ({"num_attention_heads": (12,) * 12}, "does not split into"),
        ({"intermediate_size": -1}, "must not be negative"),
        ({"num_hidden_layers": -1}, "the tower has -1"),
    ],
)
def test_sizes_that_make_no_network_are_refused(sizes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        VisionConfig(**sizes)


def test_towers_of_different_widths_must_say_so() -> None:
    with pytest.raises(UsageError, match=r"encoder_hidden_size 768 is not .*hidden_size 1024"):
        BlipConfig(vision_config=VisionConfig(hidden_size=1024, num_attention_heads=16))


def broken(**changes: Any) -> Any:
    return {**tiny.config().to_json(), **changes}


def tower(kind: str = "vision", **changes: Any) -> Any:
    whole = tiny.config().to_json()[f"{kind}_config"]
    return {key: value for key, value in {**whole, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([1, 2], "is not a model's configuration"),
        ({}, "model_type None is not BLIP"),
        (broken(model_type="blip-2"), "model_type 'blip-2' is not BLIP"),
        (broken(architectures=None), "architecture None is none of"),
        (broken(architectures=["BlipModel"]), "is none of BlipForConditional"),
        (broken(architectures={"a": 1}), "is none of"),
        (broken(vision_config=None), "both towers"),
        (broken(text_config=[1]), "both towers"),
        (broken(vision_config=tower(hidden_act="relu")), "hidden_act 'relu'; BLIP uses gelu"),
        (broken(text_config=tower("text", num_attention_heads=None)), "num_attention_heads"),
        (broken(vision_config=tower(hidden_size=48)), "encoder_hidden_size 32 is not"),
        (broken(vision_config=tower(patch_size="8")), "patch_size 8 is not one number"),
        (broken(vision_config=tower(image_size=[24, 32])), "BLIP takes square pictures"),
        (broken(vision_config=tower(image_size=25)), "the nearest are 24 and 32"),
        (broken(vision_config=tower(intermediate_size=["a", "b"])), "intermediate_size .*'a'"),
        (broken(vision_config=tower(num_hidden_layers="2")), "num_hidden_layers '2' is not"),
        (broken(vision_config=tower(hidden_size=32.0)), "hidden_size 32.0 is not a whole number"),
        (broken(vision_config=tower(patch_size=True)), "patch_size True is not a whole number"),
        (broken(vision_config=tower(head_dim="8")), "head_dim '8' is not a whole number"),
        (broken(vision_config=tower(hidden_size=[32, 32])), "hidden_size .* is not a whole number"),
        (broken(vision_config=tower(drop_path_rate="high")), "'high' is not a number"),
        (broken(text_config=tower("text", layer_norm_eps="1e-12")), "eps '1e-12' is not"),
        (broken(text_config=tower("text", layer_norm_eps=math.nan)), "layer_norm_eps nan is not"),
        (broken(text_config=tower("text", cross_attention_heads=[2.5])), "cross_attention_heads"),
        (broken(image_text_hidden_size="wide"), "wide"),
    ],
)
def test_a_bad_config_names_its_file(document: Any, reason: str) -> None:
    with pytest.raises(ArtifactError, match=rf"dir/config\.json.*{reason}"):
        BlipConfig.from_json(document, source="dir/config.json")


def test_older_configs_lack_what_cross_attention_reads() -> None:
    document = tiny.config().to_json()
    del document["text_config"]["encoder_hidden_size"]
    assert BlipConfig.from_json(document, source="x") == tiny.config()


def test_what_transformers_leaves_out_is_its_default() -> None:
    """Several versions write only what differs from their classes' defaults."""
    document = BlipConfig().to_json()
    document["vision_config"] = {"model_type": "blip_vision_model"}
    vision = BlipConfig.from_json(document, source="x").vision_config
    assert vision == VisionConfig(layer_norm_eps=1e-5)
