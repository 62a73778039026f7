"""vqa, match and reason, as a user types them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.conftest import Run

if TYPE_CHECKING:
    from blip_edge.models.config import Architecture

TEXTS = ["a red circle on the left", "both are blue squares", "what colour is it ?", "yes", "no"]


def folder(tmp_path: Path, architecture: "Architecture") -> Path:
    pytest.importorskip("torch")
    from blip_edge.models import save_model
    from tests import tiny

    path = tmp_path / architecture
    path.mkdir()
    save_model(path, tiny.model(TEXTS * 9, architecture))
    return path


@pytest.fixture
def answerer(tmp_path: Path) -> Path:
    return folder(tmp_path, "BlipForQuestionAnswering")


@pytest.fixture
def matcher(tmp_path: Path) -> Path:
    return folder(tmp_path, "BlipForImageTextRetrieval")


@pytest.fixture
def reasoner(tmp_path: Path) -> Path:
    return folder(tmp_path, "BlipForImagesAndTextClassification")


def test_an_answer_has_its_probability(run: Run, answerer: Path, picture: Path) -> None:
    code, out, err = run("vqa", answerer, picture, "What colour is it?", "--beams", 2)
    assert (code, err) == (0, "")
    said, _, score = out.rstrip("\n").partition("\t")
    code, out, err = run("vqa", answerer, picture, "What colour is it?", "--beams", 2, "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)
    assert list(row) == ["image", "question", "answer", "score"]
    assert (row["image"], row["answer"]) == (str(picture), said)
    assert row["score"] == pytest.approx(float(score), abs=1e-4)


def test_answers_are_ranked(run: Run, answerer: Path, picture: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(json.dumps(["yes", "no", "red circle"]))
    asked = ("vqa", answerer, picture, "what colour is it?", "--answers", answers)
    code, out, err = run(*asked, "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    scores = [row["score"] for row in rows]
    assert sorted(row["answer"] for row in rows) == ["no", "red circle", "yes"]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)
    code, out, _ = run(*asked, "--top", 1)
    assert (code, out.count("\n")) == (0, 1)
    assert out.startswith(rows[0]["answer"])


@pytest.mark.parametrize("content", ['{"a": 1}', '["yes", 2]', "yes", "[]", '["yes", ""]'])
def test_a_bad_list_of_answers_is_one_line(
    run: Run, answerer: Path, picture: Path, tmp_path: Path, content: str
) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text(content)
    code, out, err = run("vqa", answerer, picture, "is it?", "--answers", answers)
    assert (code in (2, 3), out, err.count("\n")) == (True, "", 1)


def test_top_without_a_list_is_refused(run: Run, answerer: Path, picture: Path) -> None:
    code, _, err = run("vqa", answerer, picture, "is it?", "--top", 3)
    assert (code, "--answers" in err) == (2, True)


@pytest.mark.parametrize("flag", ["--beams", "--min-length", "--max-length"])
def test_a_list_is_ranked_without_a_search(
    run: Run, answerer: Path, picture: Path, tmp_path: Path, flag: str
) -> None:
    answers = tmp_path / "answers.json"
    answers.write_text('["yes", "no"]')
    code, out, err = run("vqa", answerer, picture, "is it?", "--answers", answers, flag, 7)
    assert (code, out, err.count("\n")) == (2, "", 1) and flag in err


def test_texts_are_matched_in_their_order(run: Run, matcher: Path, picture: Path) -> None:
    code, out, err = run("match", matcher, picture, *TEXTS[:2], "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert [row["text"] for row in rows] == TEXTS[:2]
    assert all(list(row) == ["image", "text", "itc", "itm"] for row in rows)
    assert all(-1 <= row["itc"] <= 1 and 0 <= row["itm"] <= 1 for row in rows)
    code, out, _ = run("match", matcher, picture, *TEXTS[:2])
    assert code == 0
    assert out.splitlines()[1].endswith(TEXTS[0])
    code, legacy, _ = run("match", matcher, picture, *TEXTS[:2], "--json", "--legacy")
    assert code == 0
    assert json.loads(legacy) != rows


def test_a_heatmap_is_drawn_once(run: Run, matcher: Path, picture: Path, tmp_path: Path) -> None:
    where = tmp_path / "where.png"
    asked = ("match", matcher, picture, *TEXTS[:1], r"at $\frac$ of $5", "--heatmap", where)
    code, _, err = run(*asked)
    assert code == 0, err
    assert str(where) in err
    with Image.open(where) as drawn:
        assert drawn.width > drawn.height
    code, out, err = run(*asked)
    assert (code, out) == (3, "")
    assert "--force" in err
    assert run(*asked, "--force", "--quiet")[::2] == (0, "")
    photo = where.with_suffix(".jpg")
    assert run(*asked[:-1], photo)[0] == 0
    with Image.open(photo) as drawn:
        assert drawn.format == "JPEG"
    code, out, err = run(*asked[:-1], where.with_suffix(".bmp"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    named = tmp_path / "heat.png"
    named.mkdir()
    for taken in (named, where / "x.png"):
        code, out, err = run(*asked[:-1], taken, "--force")
        assert (code, out, err.count("\n")) == (3, "", 1)


def test_a_sentence_is_judged(run: Run, reasoner: Path, picture: Path) -> None:
    asked = ("reason", reasoner, picture, picture, "both are blue squares")
    code, out, err = run(*asked, "--json")
    assert (code, err) == (0, "")
    row = json.loads(out)
    assert list(row) == ["images", "sentence", "label", "score"]
    assert row["label"] in ("True", "False")
    assert 0.5 <= row["score"] <= 1
    code, out, _ = run(*asked)
    assert (code, out) == (0, f"{row['label']}\t{row['score']:.4f}\n")


def test_a_model_for_another_task_says_what_it_is_for(
    run: Run, matcher: Path, picture: Path
) -> None:
    for argv in (
        ("caption", matcher, picture),
        ("vqa", matcher, picture, "is it?"),
        ("reason", matcher, picture, picture, "both"),
    ):
        code, out, err = run(*argv)
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert "it was trained to match texts with pictures" in err


def test_a_missing_picture_is_one_line(run: Run, matcher: Path, tmp_path: Path) -> None:
    code, out, err = run("match", matcher, tmp_path / "gone.jpg", "a dog")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "gone.jpg" in err


def test_an_answerer_becomes_a_bundle_that_is_asked_the_same(
    run: Run, answerer: Path, picture: Path, tmp_path: Path
) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    bundle = tmp_path / "bundle"
    code, _, err = run("export", answerer, "--target", "onnx", "-o", bundle)
    assert code == 0 and err.splitlines()[-1].startswith(f"next: blip-edge vqa {bundle}")
    question = (picture, "what colour is it?", "--json")
    (expected,) = json.loads(run("vqa", answerer, *question)[1])
    (found,) = json.loads(run("vqa", bundle, *question)[1])
    assert found["answer"] == expected["answer"]
    assert found["score"] == pytest.approx(expected["score"], rel=1e-3)


def test_an_answerer_becomes_a_core_ml_bundle_of_fixed_sizes(
    run: Run, answerer: Path, picture: Path, tmp_path: Path
) -> None:
    pytest.importorskip("coremltools")
    bundle, exact = tmp_path / "bundle", ("--precision", "fp32", "--set", "text_length=20")
    code, _, err = run("export", answerer, "--target", "coreml", "-o", bundle, *exact)
    assert code == 0 and err.splitlines()[-1].startswith(f"next: blip-edge vqa {bundle}")
    for question in ("what colour is it?", "where?"):  # padded, each by another number of tokens
        (expected,) = json.loads(run("vqa", answerer, picture, question, "--json")[1])
        (found,) = json.loads(run("vqa", bundle, picture, question, "--json")[1])
        assert found["answer"] == expected["answer"]
        assert found["score"] == pytest.approx(expected["score"], rel=1e-3)
    assert run("verify", bundle)[0] == 0


def test_several_captions_are_drawn_by_a_seed(run: Run, model: Path, picture: Path) -> None:
    asked = ("caption", model, picture, "--sample", "--captions", 4, "--json")
    code, out, err = run(*asked, "--seed", 1)
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert len(rows) == 4
    assert run(*asked, "--seed", 1)[1] == out
    assert run(*asked, "--seed", 2)[1] != out
    code, out, _ = run("caption", model, picture, "--beams", 3, "--captions", 3)
    assert (code, out.count("\n")) == (0, 3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--top-p", "0.5"), "sampling"),
        (("--captions", "4", "--beams", "2"), "num_return_sequences"),
        (("--sample", "--beams", "2"), "num_beams"),
        (("--length-penalty", "nan"), "length_penalty must be finite"),
        (("--sample", "--top-p", "1.5"), "top_p"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    run: Run, model: Path, picture: Path, flags: tuple[str, ...], words: str
) -> None:
    code, out, err = run("caption", model, picture, *flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_what_was_exported_for_transformers_says_how_to_ask_it(
    run: Run, matcher: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    code, _, err = run("export", matcher, "--target", "huggingface", "-o", tmp_path / "theirs")
    assert code == 0
    assert err.splitlines()[-1].startswith("next: blip-edge match ")
    assert "Loading weights" not in err
