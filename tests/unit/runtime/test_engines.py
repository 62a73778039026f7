"""ONNX Runtime and OpenVINO give what the formula gives, through a whole bundle."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blip_edge.artifact import read_json, write_json
from blip_edge.errors import ArtifactError
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32
from blip_edge.runtime.load import load
from blip_edge.runtime.prefill import SharedPrompt
from tests.unit.runtime import toy
from tests.unit.runtime.toy_onnx import write_onnx

TARGETS = ["onnx", "openvino"]
# Both runtimes may sum in another order than numpy; logits here are of size 10.
TOLERANCE = 2e-5


def pictures() -> list[Image.Image]:
    colours = [(250, 10, 10), (10, 240, 30), (20, 20, 230), (250, 250, 40), (5, 5, 5)]
    return [Image.new("RGB", (20, 12), colour) for colour in colours]


def expected(**settings: object) -> EdgeModel:
    return EdgeModel(
        toy.ToyEngine(), toy.tokenizer(), Preprocess(size=toy.SIDE), toy.generation(**settings)
    )


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    onnx = tmp_path_factory.mktemp("onnx")
    write_onnx(onnx)
    toy.write_bundle(onnx, "onnx", {"vision": "vision.onnx", "decoder": "decoder.onnx"})
    import openvino

    ov = tmp_path_factory.mktemp("openvino")
    for name in ("vision", "decoder"):
        model = openvino.convert_model(str(onnx / f"{name}.onnx"))
        openvino.save_model(model, str(ov / f"{name}.xml"), compress_to_fp16=False)
    toy.write_bundle(ov, "openvino", {"vision": "vision.xml", "decoder": "decoder.xml"})
    return {"onnx": onnx, "openvino": ov}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("beams", [1, 2, 3, 5])
def test_a_bundle_captions_as_the_formula_does(
    bundles: dict[str, Path], target: str, beams: int
) -> None:
    found = load(bundles[target], threads=1).caption(pictures(), beams=beams)
    wanted = expected().caption(pictures(), beams=beams)
    assert [caption.token_ids for caption in found] == [caption.token_ids for caption in wanted]
    assert [caption.text for caption in found] == [caption.text for caption in wanted]
    scores = [caption.score for caption in wanted]
    assert [caption.score for caption in found] == pytest.approx(scores, abs=TOLERANCE)
    assert len({caption.text for caption in found}) > 2  # or any decoder would do


@pytest.mark.parametrize("target", TARGETS)
def test_threads_that_ask_one_bundle_get_what_one_thread_gets(
    bundles: dict[str, Path], target: str
) -> None:
    model, asked = load(bundles[target], threads=1), [*pictures(), *pictures()] * 6
    expected = [one.token_ids for one in model.caption(asked, beams=3)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: model.caption(one, beams=3).token_ids, asked))
    assert found == expected


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("rows", [1, 3])
def test_the_cache_follows_the_beams(bundles: dict[str, Path], target: str, rows: int) -> None:
    model = load(bundles[target], threads=1)
    pixels = model.preprocess(pictures()[:1])
    session = model.captioner.start(model.engine.encode(pixels), rows)
    reference = toy.ToyEngine().start(toy.ToyEngine().encode(pixels), rows)
    random = np.random.default_rng(0)
    prompt = np.repeat(random.integers(0, toy.V, (1, 4)), rows, axis=0).astype(np.int32)
    beam_idx = np.arange(rows, dtype=np.int32)
    ids = prompt
    for _ in range(40):  # beyond 16 and 32 cached tokens, where one runtime's defaults go wrong
        logits: F32 = session.step(ids, beam_idx)
        np.testing.assert_allclose(logits, reference.step(ids, beam_idx), atol=TOLERANCE)
        beam_idx = random.integers(0, rows, rows).astype(np.int32)
        ids = random.integers(0, toy.V, (rows, 1)).astype(np.int32)


@pytest.mark.parametrize("target", TARGETS)
def test_two_searches_of_one_picture_do_not_disturb_each_other(
    bundles: dict[str, Path], target: str
) -> None:
    model = load(bundles[target])
    first = model.caption(pictures()[0])
    assert model.caption(pictures()[1]) != first
    assert model.caption(pictures()[0]) == first


@pytest.mark.parametrize("target", TARGETS)
def test_the_prompt_runs_once_where_the_graph_allows_it(
    bundles: dict[str, Path], target: str, tmp_path: Path
) -> None:
    model = load(bundles[target])
    cross = model.engine.encode(model.preprocess(pictures()[:1]))
    assert isinstance(model.captioner.start(cross, 3), SharedPrompt)
    assert not isinstance(model.captioner.start(cross, 1), SharedPrompt)

    document = read_json(bundles[target] / "manifest.json")
    for kind in ("key", "value"):
        document["graphs"]["decoder"]["inputs"][f"past_{kind}_0"]["shape"][0] = "R"
    for file in bundles[target].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_json(tmp_path / "manifest.json", document)
    bound = load(tmp_path)
    cross = bound.engine.encode(bound.preprocess(pictures()[:1]))
    assert not isinstance(bound.captioner.start(cross, 3), SharedPrompt)
    assert bound.caption(pictures()) == model.caption(pictures())


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_that_is_no_graph_is_refused(target: str, tmp_path: Path) -> None:
    suffix = {"onnx": "onnx", "openvino": "xml"}[target]
    for name in ("vision", "decoder"):
        (tmp_path / f"{name}.{suffix}").write_bytes(b"not a graph")
        (tmp_path / f"{name}.bin").write_bytes(b"")
    graphs = {name: f"{name}.{suffix}" for name in ("vision", "decoder")}
    toy.write_bundle(tmp_path, target, graphs)
    with pytest.raises(ArtifactError, match=f"vision.{suffix}.*cannot open it"):
        load(tmp_path)


def test_settings_of_the_search_can_be_given(bundles: dict[str, Path]) -> None:
    model = load(bundles["onnx"])
    short = model.caption(pictures()[0], beams=2, min_length=0, max_length=6)
    assert len(short.token_ids) <= 6
    wanted = replace(model.generation, num_beams=2, min_length=0, max_length=6)
    pixels = model.preprocess(pictures()[:1])
    assert model.caption_pixels(pixels, wanted) == [short]
