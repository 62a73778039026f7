"""Bundles of every task against torch, on tiny models whose weights show a mistake."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip_edge import load
from blip_edge.benchmarks import BenchRecipe, bench, protocol
from blip_edge.benchmarks.devices.browser import BrowserDevice
from blip_edge.benchmarks.devices.find import WebSettings
from blip_edge.benchmarks.job import Job
from blip_edge.benchmarks.machine import Machine
from blip_edge.errors import ToleranceError, UsageError
from blip_edge.exporters import verify
from blip_edge.exporters.asked import examples, pictures
from blip_edge.exporters.recipe import ExportRecipe, ExportTarget
from blip_edge.exporters.stage import export
from blip_edge.models.config import Architecture
from blip_edge.models.folder import load_model
from blip_edge.progress import SILENT
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import Task
from blip_edge.runtime.manifest import read_manifest
from blip_edge.training.engine import open_model
from tests import tiny
from tests.export.conftest import TEXTS, save

FLOAT = 1e-4
QUICK = BenchRecipe(runs=2, warmup=0, seconds=0.0, burst=2, loads=1)
TASKS: dict[str, Architecture] = {
    "retrieval": "BlipForImageTextRetrieval",
    "vqa": "BlipForQuestionAnswering",
    "nlvr2": "BlipForImagesAndTextClassification",
    "pretrain": "BlipForPreTraining",
}
QUESTIONS = ["is there a red circle?", "what is above the small yellow star of a table", "where?"]


@pytest.fixture(scope="module", params=["onnx", "openvino", "coreml"])
def target(request: pytest.FixtureRequest) -> ExportTarget:
    packages = {"onnx": "onnxruntime", "coreml": "coremltools"}
    pytest.importorskip(packages.get(request.param, request.param))
    pytest.importorskip("onnxscript")
    name: ExportTarget = request.param
    return name


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root, made = tmp_path_factory.mktemp("tasks"), {}

    def model_of(task: str) -> Path:
        if task not in made:
            made[task] = save(root / task, tiny.model(list(TEXTS) + QUESTIONS, TASKS[task]))
        return made[task]

    return model_of


@pytest.fixture(scope="module")
def pair(
    models: Callable[[str], Path], target: ExportTarget, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[EdgeModel, EdgeModel, Path]]:
    """(torch's model, the bundle's, the bundle's folder) of a task, made once."""
    root, made = tmp_path_factory.mktemp(target), {}

    def pair_of(task: str) -> tuple[EdgeModel, EdgeModel, Path]:
        if task not in made:
            recipe = ExportRecipe(precision="fp32", rows=3)
            made[task] = export(models(task), root / task, target=target, recipe=recipe)
        return open_model(models(task)), load(made[task]), made[task]

    return pair_of


def images() -> list[Image.Image]:
    return list(pictures(None, 3, seed=7))


Pair = Callable[[str], tuple[EdgeModel, EdgeModel, Path]]


@pytest.mark.parametrize("task", ["retrieval", "pretrain"])
def test_texts_are_matched_as_torch_matches_them(pair: Pair, task: str) -> None:
    torch_model, bundle, _ = pair(task)
    texts = ["red", *TEXTS]  # of different lengths, so that some are padded
    for image in images():
        expected, found = torch_model.match(image, texts), bundle.match(image, texts)
        for key in ("itm", "itc"):
            assert [getattr(m, key) for m in found] == pytest.approx(
                [getattr(m, key) for m in expected], abs=FLOAT
            )
    spread = [m.itm for m in torch_model.match(images()[0], texts)]
    assert max(spread) - min(spread) > 0.01, "weights too tame to show a mistake"
    vectors = bundle.embed_image(images())
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors, torch_model.embed_image(images()), atol=FLOAT)


@pytest.mark.parametrize("beams", [1, 3])
def test_questions_are_answered_with_torchs_words(pair: Pair, beams: int) -> None:
    torch_model, bundle, _ = pair("vqa")
    expected = torch_model.answer(images(), QUESTIONS, beams=beams, max_length=8)
    found = bundle.answer(images(), QUESTIONS, beams=beams, max_length=8)
    assert [one.text for one in found] == [one.text for one in expected]
    assert [one.score for one in found] == pytest.approx(
        [one.score for one in expected], rel=1e-3, abs=1e-6
    )


def test_listed_answers_are_ranked_as_torch_ranks_them(pair: Pair) -> None:
    torch_model, bundle, _ = pair("vqa")
    answers = ["red", "a small star", "two", "blue circle", "left of a table"]
    for image, question in zip(images(), QUESTIONS, strict=True):
        expected = torch_model.answer(image, question, answers)
        found = bundle.answer(image, question, answers)
        assert [one.text for one in found] == [one.text for one in expected]
        assert [one.score for one in found] == pytest.approx(
            [one.score for one in expected], abs=FLOAT
        )


def test_sentences_about_two_pictures_are_judged_as_torch_judges_them(pair: Pair) -> None:
    torch_model, bundle, _ = pair("nlvr2")
    first, second, third = images()
    sides = ([first, second, third], [second, third, first])
    expected = torch_model.reason(*sides, list(TEXTS))
    found = bundle.reason(*sides, list(TEXTS))
    assert [one.label for one in found] == [one.label for one in expected]
    assert [one.score for one in found] == pytest.approx([o.score for o in expected], abs=FLOAT)
    swapped = bundle.reason(second, first, TEXTS[0])
    assert abs(swapped.score - found[0].score) > 1e-3, "left and right make no difference"


def test_one_bundle_of_a_pretrained_model_captions_and_matches(pair: Pair) -> None:
    torch_model, bundle, folder = pair("pretrain")
    assert read_manifest(folder).tasks == ("caption", "retrieval")
    for beams in (1, 3):
        expected = torch_model.caption(images(), beams=beams)
        found = bundle.caption(images(), beams=beams)
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]


@pytest.mark.parametrize("task", list(TASKS))
def test_a_bundle_verifies_itself_and_against_its_model(
    pair: Pair, models: Callable[[str], Path], task: str
) -> None:
    _, _, folder = pair(task)
    document = json.loads((folder / "manifest.json").read_text())
    names = {"retrieval": {"text", "itm"}, "vqa": {"question", "decoder"}, "nlvr2": {"reason"}}
    expected = names.get(task, {"text", "itm", "decoder"}) | {"vision"}
    assert set(document["graphs"]) == expected
    for graph in expected:
        assert set(document["graphs"][graph]["outputs"]) <= set(document["parity"][graph])
    checks = verify(folder, models(task)).checks
    assert all(check.passed for check in checks)
    assert any(check.name.startswith("words of") for check in checks)


@pytest.mark.parametrize("task", list(TASKS))
def test_a_bundle_does_not_pass_for_another_models(
    pair: Pair, models: Callable[[str], Path], task: str, tmp_path: Path
) -> None:
    _, _, folder = pair(task)
    other = load_model(models(task))
    with torch.no_grad():
        for tensor in other.blip.parameters():
            tensor.mul_(1.1)
    # By its numbers: it may say the same words, or none.
    with pytest.raises(ToleranceError, match=r"\w+ of \w+ against the model: max difference"):
        verify(folder, save(tmp_path / "other", other))


def test_a_golden_array_that_was_changed_is_found(pair: Pair, tmp_path: Path) -> None:
    import shutil

    from blip_edge.runtime.sums import write_sums

    _, _, folder = pair("retrieval")
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    changed = copy / "golden" / "retrieval0_itm_logits.npy"
    np.save(changed, np.load(changed) + 0.01)
    write_sums(copy)
    with pytest.raises(ToleranceError, match=r"itm_logits retrieval0_0\.png"):
        verify(copy)


def test_every_task_has_examples_without_a_data_set(models: Callable[[str], Path]) -> None:
    words = open_model(models("vqa")).tokenizer
    for task, shapes in {
        "caption": (1, 0),
        "retrieval": (1, 3),
        "vqa": (1, 1),
        "nlvr2": (2, 1),
    }.items():
        found = examples(task, None, 2, words)  # type: ignore[arg-type]
        assert [(len(one.images), len(one.texts)) for one in found] == [shapes] * 2


@pytest.mark.parametrize("task", ["retrieval", "vqa", "nlvr2", "pretrain"])
def test_what_is_timed_is_what_the_bundle_is_for(
    pair: Pair, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Measuring the machine takes two seconds, and is tested elsewhere.
    cool = Machine(cpu="cpu", arch="a", isa=(), cores=2, memory_bytes=1, os="o", python="3")
    monkeypatch.setattr(protocol, "machine", lambda measure: cool)
    _, _, folder = pair(task)
    pretrained: Task = "retrieval"  # its first is captions
    asked = pretrained if task == "pretrain" else None
    [record] = bench([folder], recipe=QUICK, task=asked, threads=1)
    settings, columns = record["settings"], record["samples"]
    assert settings["task"] == ("retrieval" if task == "pretrain" else task)
    assert len(settings["texts"]) == len(settings["image_files"]) > 1
    assert all((" + " in name) == (task == "nlvr2") for name in settings["image_files"])
    with pytest.raises(UsageError, match=r"was trained for .*, not"):
        bench([folder], recipe=QUICK, task="nlvr2" if task != "nlvr2" else "vqa")
    if read_manifest(folder).target == "coreml":
        assert columns == {} and "simulated" in record["notes"][0]
        return
    stages = ["preprocess_ms", "vision_ms", "read_ms", *["decode_ms"] * (task == "vqa")]
    added = np.sum([columns[stage] for stage in stages], axis=0)
    np.testing.assert_allclose(added, columns["total_ms"], atol=1e-2)
    assert ("steps" in columns) == (task == "vqa")
    assert "tokens" not in columns


def test_the_browser_says_that_it_only_captions() -> None:
    device = BrowserDevice(sys.executable, WebSettings(), print)
    job = Job(bundles=(), asked=(Asked(("a.png",), ("where?",)),), recipe=QUICK, task="vqa")
    with pytest.raises(UsageError, match="times captions only"):
        device.prepare(job, SILENT)
