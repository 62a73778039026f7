"""Models that do not caption: what they are calibrated on, and by what they are judged."""

import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from blip_edge.artifact import read_json, write_json
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.models import Model, build
from blip_edge.models.config import Architecture
from blip_edge.models.folder import load_model, save_model
from blip_edge.models.quantized import Quantization, quantizable_layers
from blip_edge.quantize import QuantizeRecipe, quantize
from blip_edge.quantize.uses import judged_by
from blip_edge.runtime.engine import Task
from blip_edge.training.engine import edge_model

KINDS: dict[Task, tuple[Architecture, str]] = {
    "retrieval": ("BlipForImageTextRetrieval", "r_mean"),
    "vqa": ("BlipForQuestionAnswering", "vqa_accuracy"),
    "nlvr2": ("BlipForImagesAndTextClassification", "accuracy"),
}


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


def trained(captioner: Model, task: Task) -> Model:
    torch.manual_seed(3)
    config = replace(captioner.config, architecture=KINDS[task][0])
    blip = build(config).eval()
    for name, parameter in blip.named_parameters():
        if "norm" not in name.lower():
            nn.init.normal_(parameter, std=0.2)
    return captioner.with_blip(blip)


def saved(model: Model, folder: Path) -> Path:
    folder.mkdir()
    save_model(folder, model)
    return folder


def test_every_layer_that_the_task_runs_gets_a_range_and_the_metric_is_the_tasks(
    captioner: Model, asked: Path, task: Task, tmp_path: Path
) -> None:
    folder = saved(trained(captioner, task), tmp_path / "model")
    recipe = QuantizeRecipe(samples=4, batch=2, eval_items=4, observer="min-max", tolerance=1.0)
    output = quantize(folder, asked, tmp_path / "out", recipe)
    found = Quantization.load(output)
    assert found.int8_layers == list(quantizable_layers(load_model(folder).blip))
    assert found.metric is not None and found.metric["name"] == KINDS[task][1]
    assert found.metric["split"] == ("dev" if task == "nlvr2" else "val")
    assert read_json(output / "metrics.json")["task"] == task


def test_what_is_read_in_use_lies_in_the_ranges(
    captioner: Model, asked: Path, task: Task, tmp_path: Path
) -> None:
    model = trained(captioner, task)
    dataset = Dataset.open(asked)
    recipe = QuantizeRecipe(samples=1, observer="min-max", sensitivity="none", eval_items=0)
    output = quantize(saved(model, tmp_path / "model"), asked, tmp_path / "out", recipe, seed=2)
    decisions = Quantization.load(output).layers
    seen: dict[str, tuple[float, float]] = {}

    def note(path: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        low, high = seen.get(path, (0.0, 0.0))
        seen[path] = min(low, float(inputs[0].min())), max(high, float(inputs[0].max()))

    for path in decisions:
        model.blip.get_submodule(path).register_forward_pre_hook(partial(note, path))
    image: Any = Image.open(asked / "images" / _image(task, dataset, 2))
    runtime = edge_model(model)
    if task == "retrieval":
        row = next(r for r in _rows(dataset.retrieval("train"), 2))
        runtime.match(image, [row.captions[0]])
    elif task == "vqa":
        runtime.answer(image, "what is under it", beams=1)
    else:
        first = dataset.sentences("train")[0].images[1]
        runtime.reason(image, Image.open(asked / "images" / first), "both show a red circle")
    assert seen.keys() == decisions.keys()
    for path, (low, high) in seen.items():
        span = decisions[path].input_range
        assert span is not None and span[0] <= low + 1e-5 and high - 1e-5 <= span[1], path


def test_the_wrong_data_is_named(captioner: Model, data: Path, tmp_path: Path) -> None:
    folder = saved(trained(captioner, "vqa"), tmp_path / "model")
    with pytest.raises(ArtifactError, match=r"vqa_(train|val)\.json"):
        quantize(folder, data, tmp_path / "out", QuantizeRecipe(samples=2))
    assert not (tmp_path / "out").exists()


def test_a_captioner_is_judged_by_cider(captioner: Model) -> None:
    assert judged_by(captioner) == ("caption", "val", "CIDEr")


def _rows(rows: list[Any], seed: int) -> list[Any]:
    random.Random(seed).shuffle(rows)
    return rows


def _image(task: Task, dataset: Dataset, seed: int) -> str:
    if task == "retrieval":
        return str(_rows(dataset.retrieval("train"), seed)[0].image)
    if task == "vqa":
        return str(_rows(dataset.questions("train"), seed)[0].image)
    return str(_rows(dataset.sentences("train"), seed)[0].images[0])
