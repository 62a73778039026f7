"""A tiny captioner with lively weights, and a data set of random pictures for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from blip_edge.artifact import read_json, write_json
from blip_edge.generation import Generation
from blip_edge.models import BlipConfig, Model, TextConfig, VisionConfig, build
from blip_edge.models.folder import save_model
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.engine import Task
from blip_edge.text import Tokenizer
from tests.unit.quantize.kinds import KINDS

WORDS = ["a red circle over a blue square", "two green triangles", "nothing under a white star"]


@pytest.fixture
def captioner() -> Model:
    torch.manual_seed(7)
    tokenizer = Tokenizer.train(WORDS, 80)
    vision = VisionConfig(
        image_size=16,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    text = TextConfig(
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=16,
        hidden_size=32,
        encoder_hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    blip = build(BlipConfig(vision_config=vision, text_config=text)).eval()
    for name, parameter in blip.named_parameters():
        if "norm" not in name.lower():
            nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():  # likelier to end a caption, so that lengths differ
        blip.decoder.cls.get_submodule("predictions").get_parameter("bias")[tokenizer.sep] += 1.5
    generation = Generation(
        bos_token_id=tokenizer.dec,
        eos_token_id=tokenizer.sep,
        pad_token_id=tokenizer.pad,
        min_length=3,
        max_length=9,
        prompt="a ",
    )
    return Model(blip, tokenizer, Preprocess(size=16), generation)


@pytest.fixture
def model(captioner: Model, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_model(folder, captioner)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve train pictures with two captions each, and four of every other split."""
    folder = tmp_path / "data"
    generator = np.random.default_rng(3)
    for split, count in {"train": 12, "val": 4, "test": 4}.items():
        (folder / "images" / split).mkdir(parents=True)
        names = [f"{split}/{number}.png" for number in range(count)]
        for name in names:
            pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name)
        rows = [
            {"image": name, "caption": caption, "image_id": name}
            for name in names
            for caption in WORDS[:2]
        ]
        whole = [{"image": name, "caption": WORDS, "image_id": name} for name in names]
        write_json(folder / f"caption_{split}.json", rows if split == "train" else whole)
    write_json(folder / "dataset.json", {"name": "noise", "version": "1", "license": "none"})
    return folder


@pytest.fixture(params=list(KINDS))
def task(request: pytest.FixtureRequest) -> Task:
    found: Task = request.param
    return found


@pytest.fixture
def asked(data: Path) -> Path:
    """The data set with questions and sentences about its pictures."""
    images = [row["image"] for row in read_json(data / "caption_train.json")]
    for split in ("train", "val"):
        rows = [
            {
                "question_id": n,
                "image": image,
                "question": "what is under it",
                "answer": ["a star"] * 10,
            }
            for n, image in enumerate(images)
        ]
        write_json(data / f"vqa_{split}.json", rows)
    for split in ("train", "dev"):
        said = [
            {
                "identifier": f"{split}-{n}-0-0",
                "sentence": "both show a red circle",
                "label": "True" if n % 2 else "False",
                "images": [image, images[0]],
            }
            for n, image in enumerate(images)
        ]
        write_json(data / f"nlvr_{split}.json", said)
    return data
