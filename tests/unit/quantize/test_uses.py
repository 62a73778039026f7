"""Models that do not caption: what they are calibrated on, and by what they are judged."""

import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from torch import Tensor, nn

from blip_edge.artifact import read_json
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.models import Model
from blip_edge.models.folder import load_model, save_model
from blip_edge.models.quantized import (
    Quantization,
    is_table,
    quantizable_layers,
    quantizable_tables,
)
from blip_edge.quantize import QuantizeRecipe, quantize
from blip_edge.quantize.uses import judged_by
from blip_edge.runtime.engine import Task
from blip_edge.training.engine import edge_model
from tests.unit.quantize.kinds import KINDS, trained


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
    blip = load_model(folder).blip
    assert found.int8_layers == [*quantizable_tables(blip), *quantizable_layers(blip)]
    card = (output / "README.md").read_text()
    assert f"{len(found.layers)} of {len(found.layers)} layers have integers" in card
    assert "- 1 with 8-bit words, which are looked up" in card
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
    layers = Quantization.load(output).layers
    decisions = {path: decision for path, decision in layers.items() if not is_table(path)}
    assert len(layers) == len(decisions) + 1
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
