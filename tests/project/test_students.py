"""The built-in students are as large as their names and comments say."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from blip_edge.models import BlipConfig, TextConfig, VisionConfig
from blip_edge.models.presets import preset
from blip_edge.models.student import StudentSizes, student_config
from blip_edge.models.weighing import parameters
from blip_edge.recipe import find, load, names
from blip_edge.training import TrainRecipe

STAGE = "distill/students"
# Millions of parameters as captioners of BLIP base, and the words of their vocabulary.
EDGE = {
    "edge-m": (90, 30_524),
    "edge-s": (40, 30_524),
    "edge-xs": (15, 30_524),
    "edge-nano": (5, 10_000),
}
BOOK = "book-30"
SHAPES = {"shapes-44": 0.44, "shapes-25": 0.25, "shapes-10": 0.10}


def count(config: BlipConfig, words: int = 0) -> int:
    text = config.text_config
    fewer = replace(text, vocab_size=words or text.vocab_size)
    return sum(parameters(replace(config, text_config=fewer)).values())


def drawn_teacher() -> BlipConfig:
    """The standard drawn world's captioner, as its recipe of pre-training makes it."""
    how = load(TrainRecipe, "train", "shapes-standard-pretrain")
    vision = VisionConfig(
        image_size=how.image_size,
        patch_size=how.patch_size,
        hidden_size=how.vision_width,
        num_hidden_layers=how.vision_layers,
        num_attention_heads=how.vision_heads,
        intermediate_size=4 * how.vision_width,
    )
    text = TextConfig(
        vocab_size=how.vocab_size,
        max_position_embeddings=how.max_positions,
        hidden_size=how.text_width,
        encoder_hidden_size=how.vision_width,
        num_hidden_layers=how.text_layers,
        num_attention_heads=how.text_heads,
        intermediate_size=4 * how.text_width,
    )
    return BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=how.embed_dim)


def test_these_are_all_students() -> None:
    assert {name for stage, name in names() if stage == STAGE} == {*EDGE, *SHAPES, BOOK}


@pytest.mark.parametrize("name", EDGE)
def test_students_of_blip_base_are_of_the_promised_size(name: str) -> None:
    millions, words = EDGE[name]
    config = student_config(preset("base"), load(StudentSizes, STAGE, name))
    assert count(config, words) == pytest.approx(millions * 1e6, rel=0.06)
    assert config.model_type == "blip"
    # One that is pre-trained at 224 pixels can be their teacher too.
    pretrained = preset("base", "BlipForPreTraining", image_size=224)
    assert student_config(pretrained, load(StudentSizes, STAGE, name))


@pytest.mark.parametrize("name", EDGE)
def test_their_comments_say_their_sizes(name: str) -> None:
    said = find(STAGE, name).read_text(encoding="utf-8")
    config = student_config(preset("base"), load(StudentSizes, STAGE, name))
    sizes = {figure for words in (30_524, 10_000, 2_000) for figure in _said(count(config, words))}
    figures = re.findall(r"([\d.]+) M\b", said)
    assert figures and set(figures) <= sizes
    if share := re.search(r"\((\d+) %\)", said):
        assert int(share[1]) == round(100 * count(config) / count(preset("base")))
    assert (pixels := re.search(r"at (\d+) pixels", said))
    assert int(pixels[1]) == config.vision_config.image_size


def _said(number: int) -> tuple[str, str]:
    return f"{number / 1e6:.0f}", f"{number / 1e6:.1f}"


@pytest.mark.parametrize("name", SHAPES)
def test_students_of_the_drawn_world_are_their_share_of_its_captioner(name: str) -> None:
    teacher = drawn_teacher()
    config = student_config(teacher, load(StudentSizes, STAGE, name))
    assert count(config) / count(teacher) == pytest.approx(SHAPES[name], abs=0.02)
    for tower in (config.vision_config, config.text_config):
        assert tower.head_width == 32
        assert tower.hidden_size % 8 == 0
    assert config.vision_config.num_hidden_layers == 4  # seeing keeps its depth
    assert config.model_type == "blip"


def test_the_page_says_how_large_they_are() -> None:
    page = (Path(__file__).resolve().parents[2] / "distill" / "README.md").read_text("utf-8")
    for name, (_, words) in EDGE.items():
        sizes = load(StudentSizes, STAGE, name)
        config = student_config(preset("base"), sizes)
        line = next(line for line in page.splitlines() if line.startswith(f"| [{name}]"))
        assert f"{count(config, words) / 1e6:.1f} M" in line
        assert f"| {config.vision_config.image_size} px |" in line
