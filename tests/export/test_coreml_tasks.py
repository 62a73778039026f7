"""What Core ML bundles have of their own: fixed sizes, pictures as inputs, palettes, and state."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip_edge import load
from blip_edge.errors import ToleranceError, UsageError
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.exporters.asked import pictures
from blip_edge.models.config import Architecture
from blip_edge.models.quantized import LayerDecision, Quantization, quantizable_layers
from blip_edge.training.engine import open_model
from tests import tiny
from tests.export.conftest import TEXTS, save

load_spec = pytest.importorskip("coremltools").utils.load_spec

QUESTIONS = ["is there a red circle?", "what is above the small yellow star of a table", "where?"]
ARCHITECTURES: dict[str, Architecture] = {
    "caption": "BlipForConditionalGeneration",
    "retrieval": "BlipForImageTextRetrieval",
    "vqa": "BlipForQuestionAnswering",
    "nlvr2": "BlipForImagesAndTextClassification",
    "pretrain": "BlipForPreTraining",
}
Made = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """`made(task, **recipe)`: (a model, its Core ML bundle), made once."""
    root = tmp_path_factory.mktemp("coreml")
    bundles: dict[str, Path] = {}

    def make(task: str, **recipe: Any) -> tuple[Path, Path]:
        model, name = root / task, f"{task}-bundle-{sorted(recipe.items())}"
        if not model.exists():
            save(model, tiny.model(list(TEXTS) + QUESTIONS, ARCHITECTURES[task]))
        if name not in bundles:
            how = ExportRecipe(golden=2, **recipe)
            bundles[name] = export(model, root / str(len(bundles)), target="coreml", recipe=how)
        return model, bundles[name]

    return make


def images() -> list[Image.Image]:
    return list(pictures(None, 3, seed=7))


def manifest(bundle: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((bundle / "manifest.json").read_text())
    return document


# The matcher whose graphs read three texts of nine tokens at once.
SMALL: dict[str, Any] = {"precision": "fp32", "text_rows": 3, "text_length": 9}


def test_texts_are_split_and_padded_unseen(made: Made) -> None:
    model, bundle = map(load, made("retrieval", **SMALL))
    texts = ["red", "blue", "two", "a table", "star", "left", "a ring"]
    found = bundle.match(images()[0], texts)
    assert [one.itm for one in found] == pytest.approx(
        [one.itm for one in model.match(images()[0], texts)], abs=1e-4
    )
    alone = [bundle.match(images()[0], [text])[0] for text in texts]
    for key in ("itc", "itm"):
        batched = [getattr(one, key) for one in found]
        assert batched == pytest.approx([getattr(one, key) for one in alone], abs=1e-5)


def test_a_longer_text_is_cut_where_the_graph_ends(made: Made) -> None:
    folder, bundle = made("retrieval", **SMALL)
    model, cut = open_model(folder), load(bundle)
    ids, mask = model.tokenizer.encode([TEXTS[0]], max_length=9)
    assert len(model.tokenizer.encode([TEXTS[0]])[0][0]) > 9
    expected = model.engine.embed_text(ids, mask)  # type: ignore[attr-defined]
    np.testing.assert_allclose(cut.embed_text([TEXTS[0]]), expected, atol=1e-4)
    with pytest.raises(UsageError, match="at most 9 tokens, not 10"):
        cut.engine.embed_text(np.ones((1, 10), np.int32), np.ones((1, 10), np.int32))  # type: ignore[attr-defined]


def test_sizes_that_the_model_cannot_have_are_refused(made: Made, tmp_path: Path) -> None:
    folder, _ = made("retrieval", **SMALL)
    with pytest.raises(UsageError, match="text_length 49 is more than the model's 48 positions"):
        export(folder, tmp_path / "out", target="coreml", recipe=ExportRecipe(text_length=49))


@pytest.mark.parametrize("task", ["caption", "nlvr2"])
def test_pictures_go_in_as_bytes(made: Made, task: str) -> None:
    folder, bundle = made(task, precision="fp32", image_input=True)
    names = ["left_image", "right_image"] if task == "nlvr2" else ["image"]
    vision = manifest(bundle)["graphs"]["vision"]
    assert vision["inputs"] == {n: {"shape": [1, 3, 24, 24], "dtype": "uint8"} for n in names}
    described = load_spec(str(bundle / "vision.mlpackage")).description.input
    for feature in described:
        kind = feature.type.imageType
        assert (kind.width, kind.height, kind.colorSpace) == (24, 24, kind.RGB)
    model, packed = load(folder), load(bundle)
    first, second, _ = images()
    if task == "caption":
        for beams in (1, 2):
            found = packed.caption(images(), beams=beams)
            expected = model.caption(images(), beams=beams)
            assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    else:
        judged = packed.reason(first, second, TEXTS[0])
        assert judged.score == pytest.approx(model.reason(first, second, TEXTS[0]).score, abs=1e-4)
        assert abs(packed.reason(second, first, TEXTS[0]).score - judged.score) > 1e-3
    assert verify(bundle, folder).passed


@pytest.mark.parametrize("task", ["caption", "vqa"])
def test_a_cache_that_is_state_gives_torchs_words(made: Made, task: str) -> None:
    folder, bundle = made(task, ios=18)
    decoder = manifest(bundle)["graphs"]["decoder"]
    assert list(decoder["outputs"]) == ["logits"]
    assert not any(name.startswith("past_") for name in decoder["inputs"])
    spec = load_spec(str(bundle / "decoder.mlpackage"))
    assert spec.specificationVersion == 9 and len(spec.description.state) == 4
    model, packed = load(folder), load(bundle)
    for beams in (1, 2):
        if task == "caption":
            found = packed.caption(images(), beams=beams)
            expected = model.caption(images(), beams=beams)
            assert [one.token_ids for one in found] == [one.token_ids for one in expected]
        else:
            said = packed.answer(images(), QUESTIONS, beams=beams)
            wanted = model.answer(images(), QUESTIONS, beams=beams)
            assert [one.text for one in said] == [one.text for one in wanted]
    if task == "vqa":
        answers = ["red", "a small star", "two", "blue circle", "left of a table"]
        said = packed.answer(images()[0], QUESTIONS[0], answers)
        wanted = model.answer(images()[0], QUESTIONS[0], answers)
        assert [one.text for one in said] == [one.text for one in wanted]
    assert "iOS 18, macOS 15" in (bundle / "README.md").read_text()


def test_state_has_no_single_precision(made: Made, tmp_path: Path) -> None:
    folder, _ = made("caption", ios=18)
    with pytest.raises(UsageError, match="half precision"):
        export(
            folder,
            tmp_path / "out",
            target="coreml",
            recipe=ExportRecipe(ios=18, precision="fp32"),
        )


def test_palettes_are_what_the_evaluator_looks_weights_up_in(made: Made) -> None:
    folder, bundle = made("caption", palette_bits=6)
    document = manifest(bundle)
    assert document["palette_bits"] == 6 and document["gate"] == {"psnr_db": 20.0}
    for row in document["graphs"].values():
        assert row["ops"]["by_type"]["constexpr_lut_to_dense"] > 4 and row["ops"]["int8"] == 0
    parity = document["parity"]["decoder"]["teacher_forced_logits"]
    assert 20 < parity["psnr_db"] < 60, "palettes that cost nothing were not used"
    assert "palettes of 64 values" in (bundle / "README.md").read_text()
    assert verify(bundle, folder).passed


def test_palettes_that_cost_too_much_are_rejected(made: Made, tmp_path: Path) -> None:
    folder, _ = made("caption", palette_bits=6)
    with pytest.raises(ToleranceError, match="PSNR"):
        export(
            folder,
            tmp_path / "out",
            target="coreml",
            recipe=ExportRecipe(palette_bits=4, palette_psnr=60.0),
        )
    assert not (tmp_path / "out").exists() and (tmp_path / "out.rejected").is_dir()
    with pytest.raises(UsageError, match="onnx in fp32 has no palettes"):
        export(folder, tmp_path / "out", target="onnx", recipe=ExportRecipe(palette_bits=4))


def test_layers_that_towers_share_are_in_8_bits_in_every_graph(tmp_path: Path) -> None:
    shared = tiny.model(list(TEXTS), ARCHITECTURES["pretrain"])
    folder = save(tmp_path / "pretrain", shared)
    decision = LayerDecision(
        decision="int8", weight_bits=8, activation_bits=8, input_scale=0.1, input_zero_point=128
    )
    layers = dict.fromkeys(quantizable_layers(shared.blip), decision)
    Quantization(mode="static", layers=layers).save(folder)
    bundle = export(folder, tmp_path / "out", target="coreml", recipe=ExportRecipe(golden=1))
    document = manifest(bundle)
    assert document["precision"] == "int8"
    for name in ("vision", "text", "itm", "decoder"):
        row = document["graphs"][name]
        assert row["ops"]["int8"] >= row["int8_layers"] > 0


def test_a_file_says_what_it_is_without_its_bundle(made: Made) -> None:
    _, bundle = made("vqa", ios=18)
    for path in sorted(bundle.glob("*.mlpackage")):
        description = load_spec(str(path)).description
        assert all(f.shortDescription for f in [*description.input, *description.output])
        said = description.metadata
        assert said.author and said.license and said.versionString and said.shortDescription
        facts = said.userDefined
        assert facts["blip_edge.tasks"] == "vqa"
        assert json.loads(facts["blip_edge.preprocess"])["size"] == {"height": 24, "width": 24}
