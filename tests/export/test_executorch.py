"""ExecuTorch bundles against torch, on tiny models whose weights show a mistake."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blip_edge import load
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.exporters import ExportRecipe, export, verify
from blip_edge.exporters.asked import pictures
from blip_edge.exporters.parity import compare, forced_logits, make_forcing
from blip_edge.models.config import Architecture
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.manifest import graph_sha256
from blip_edge.training.engine import open_model
from tests import tiny
from tests.export.conftest import TEXTS, save

pytest.importorskip("executorch.runtime")
pytestmark = [
    pytest.mark.slow,
    # Between torch, torchao and executorch, while graphs are lowered.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

FLOAT = 1e-4  # float32 in another order of operations; a wrong mask or cache is off by 0.1 and more
QUESTIONS = ["is there a red circle?", "what is above the small yellow star of a table"]
TASKS: dict[str, Architecture] = {
    "retrieval": "BlipForImageTextRetrieval",
    "vqa": "BlipForQuestionAnswering",
    "nlvr2": "BlipForImagesAndTextClassification",
}
Pair = Callable[[str], tuple[EdgeModel, EdgeModel]]


@pytest.fixture(scope="module")
def bundle(uneven: Path, exported: Callable[..., Path]) -> Path:
    return exported(uneven, "executorch", precision="fp32", rows=4, length=44)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """(torch's model, the bundle's) of a task; its texts are split, three at a time."""
    root = tmp_path_factory.mktemp("executorch")
    recipe = ExportRecipe(golden=1, rows=3, text_rows=3)

    def pair_of(task: str) -> tuple[EdgeModel, EdgeModel]:
        folder = save(root / task, tiny.model(list(TEXTS) + QUESTIONS, TASKS[task]))
        made = export(folder, root / f"{task}-pte", target="executorch", recipe=recipe)
        return open_model(folder), load(made)

    return pair_of


def images() -> list[Image.Image]:
    """Other pictures than the golden ones."""
    return list(pictures(None, 3, seed=7))


def dictated(model: EdgeModel, *, rows: int, tokens: int, prompt: int) -> Any:
    ids = tuple(model.tokenizer.prompt_ids("a picture of a red circle above a blue square"))
    forcing = make_forcing(
        ids[:prompt], rows=rows, tokens=tokens, vocabulary=model.tokenizer.vocab_size
    )
    seen = model.captioner.encode(model.preprocess(images()[:1]))
    return forced_logits(model.captioner, seen, forcing)


def test_the_manifest_says_what_runs(bundle: Path) -> None:
    document = json.loads((bundle / "manifest.json").read_text())
    assert document["cache"]["static"] == {"rows": 4, "length": 44}
    assert document["graphs"]["decoder"]["inputs"]["past_key_1"]["shape"] == ["Q", 2, "P", 8]
    for name, products in {"vision": 17, "decoder": 26}.items():
        ops = document["graphs"][name]["ops"]
        assert (ops["int8"], ops["float"]) == (0, products)
        assert "aten::linear" not in ops["by_type"] and "aten::bmm" not in ops["by_type"]
        assert all(0 < row["max_abs_diff"] <= FLOAT for row in document["parity"][name].values())


@pytest.mark.parametrize(("rows", "prompt", "tokens"), [(4, 1, 40), (1, 7, 12), (2, 5, 12)])
def test_dictated_tokens_with_rows_changing_places(
    bundle: Path, uneven: Path, rows: int, prompt: int, tokens: int
) -> None:
    expected = dictated(open_model(uneven), rows=rows, tokens=tokens, prompt=prompt)
    actual = dictated(load(bundle), rows=rows, tokens=tokens, prompt=prompt)
    assert compare(expected, actual).max_abs_diff <= FLOAT


@pytest.mark.parametrize("beams", [1, 3])
def test_captions_have_the_same_tokens_as_torch(bundle: Path, uneven: Path, beams: int) -> None:
    expected = open_model(uneven).caption(images(), beams=beams)
    actual = load(bundle).caption(images(), beams=beams)
    assert [c.token_ids for c in actual] == [c.token_ids for c in expected]
    assert [c.score for c in actual] == pytest.approx([c.score for c in expected], abs=1e-4)


def test_threads_are_set_before_a_program_is_open_and_then_stay(bundle: Path) -> None:
    """In a process of its own: ExecuTorch crashes where a program outlives its first pool."""
    program = f"""
from blip_edge import load
from blip_edge.errors import UsageError
picture = {str(bundle / "golden" / "caption0_0.png")!r}
first, second = load({str(bundle)!r}, threads=1), load({str(bundle)!r}, threads=1)
try:
    load({str(bundle)!r}, threads=2)
except UsageError as error:
    print(error)
assert first.caption(picture) == second.caption(picture)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "uses 1 threads in this process already" in done.stdout


def test_it_verifies_itself_and_against_its_model(bundle: Path, uneven: Path) -> None:
    assert all(check.passed for check in verify(bundle, uneven).checks)


def test_what_is_beyond_its_bounds_is_refused(bundle: Path) -> None:
    model = load(bundle)
    with pytest.raises(UsageError, match="at most 4 beams"):
        model.caption(images()[0], beams=5)
    with pytest.raises(UsageError, match="at most 44 tokens"):
        model.caption(images()[0], max_length=45)
    session = model.captioner.start(model.captioner.encode(model.preprocess(images()[:1])), 1)
    ids, still = np.zeros((1, 44), np.int32), np.zeros(1, np.int32)
    session.step(ids, still)
    with pytest.raises(UsageError, match="cache is full"):
        session.step(ids[:, :1], still)


def test_a_program_that_does_not_open_is_named(
    bundle: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import shutil

    copy = shutil.copytree(bundle, tmp_path / "copy")
    damaged = copy / "decoder.pte"
    damaged.write_bytes(damaged.read_bytes()[:3000])
    document = json.loads((copy / "manifest.json").read_text())
    document["graphs"]["decoder"]["sha256"] = graph_sha256(damaged)
    (copy / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=r"decoder\.pte: ExecuTorch cannot open it"):
        load(copy)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"precision": "fp16"}, "executorch bundles are fp32, not fp16"),
        ({"length": 47}, "length must be 4 to 46"),
        ({"text_length": 49}, "text_length must be 6 to 48"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    uneven: Path, tmp_path: Path, told: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        export(uneven, tmp_path / "out", target="executorch", recipe=ExportRecipe(**told))
    assert list(tmp_path.iterdir()) == []


def test_an_8_bit_model_is_refused_unless_float_is_asked(quantized: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="executorch bundles are fp32, not int8"):
        export(quantized, tmp_path / "out", target="executorch")


def test_texts_are_matched_as_torch_matches_them(pair: Pair) -> None:
    torch_model, bundle = pair("retrieval")
    texts = ["red", *TEXTS]  # of different lengths, and one more than are read at once
    for image in images():
        expected, found = torch_model.match(image, texts), bundle.match(image, texts)
        for key in ("itm", "itc"):
            assert [getattr(one, key) for one in found] == pytest.approx(
                [getattr(one, key) for one in expected], abs=FLOAT
            )


def test_questions_are_answered_with_torchs_words(pair: Pair) -> None:
    torch_model, bundle = pair("vqa")
    for beams in (1, 3):
        expected = torch_model.answer(images()[:2], QUESTIONS, beams=beams, max_length=8)
        found = bundle.answer(images()[:2], QUESTIONS, beams=beams, max_length=8)
        assert [one.text for one in found] == [one.text for one in expected]
    answers = ["red", "a small star", "two", "blue circle", "left of a table"]
    ranked = torch_model.answer(images()[0], QUESTIONS[0], answers)
    found = bundle.answer(images()[0], QUESTIONS[0], answers)
    assert [one.text for one in found] == [one.text for one in ranked]
    scores = [one.score for one in ranked]
    assert [one.score for one in found] == pytest.approx(scores, abs=FLOAT)


def test_sentences_about_two_pictures_are_judged_as_torch_judges_them(pair: Pair) -> None:
    torch_model, bundle = pair("nlvr2")
    first, second, third = images()
    sides = ([first, second, third], [second, third, first])
    expected = torch_model.reason(*sides, list(TEXTS))
    found = bundle.reason(*sides, list(TEXTS))
    assert [one.label for one in found] == [one.label for one in expected]
    assert [one.score for one in found] == pytest.approx([o.score for o in expected], abs=FLOAT)
