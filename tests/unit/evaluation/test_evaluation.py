"""Evaluation of anything that captions, and of results files; nothing here needs a network."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_edge.data.shapes import Background, Scene, Thing
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation import (
    CaptionSet,
    EvalSettings,
    Evaluation,
    Skipped,
    evaluate,
    evaluate_captions,
    score_predictions,
    stage,
)
from blip_edge.evaluation.agreement import judge_captions
from blip_edge.runtime.results import Caption

COLOURS = ["red", "green", "blue", "white", "black"]
TEXTS = {
    "red": ["a red dog runs on grass", "the dog is red"],
    "green": ["two green men wait here", "a pair of green men"],
    "blue": ["one blue car at sea", "the car stands by the sea"],
    "white": ["my white cat sleeps well", "some cat sleeps"],
    "black": ["five black birds fly high", "birds in the sky"],
}


class Painter:
    """Says the first reference for a picture's colour, and remembers how it was asked."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.beams: int | None = None
        self.repetition_penalty: float | None = None

    def caption(
        self,
        image: list[Image.Image],
        /,
        *,
        beams: int | None = None,
        repetition_penalty: float | None = None,
    ) -> list[Caption]:
        self.batches.append(len(image))
        self.beams, self.repetition_penalty = beams, repetition_penalty
        return [Caption(TEXTS[_colour(picture)][0], 0.0, ()) for picture in image]


def _colour(picture: Image.Image) -> str:
    pixel = picture.getpixel((0, 0))
    return next(
        name for name in COLOURS if Image.new("RGB", (1, 1), name).getpixel((0, 0)) == pixel
    )


def _dataset(folder: Path, rows: list[dict[str, Any]], split: str = "test") -> Path:
    folder.mkdir(exist_ok=True)
    about = {"name": "tiny", "version": "1", "license": "CC0-1.0"}
    (folder / "dataset.json").write_text(json.dumps(about))
    (folder / f"caption_{split}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Five pictures of one colour each, with ids 10, 11, …"""
    rows = []
    (tmp_path / "data" / "images").mkdir(parents=True)
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (4, 4), colour).save(tmp_path / "data" / "images" / f"{colour}.png")
        rows.append({"image": f"{colour}.png", "caption": TEXTS[colour], "image_id": 10 + number})
    return _dataset(tmp_path / "data", rows)


def _evaluated(data: Path, painter: Painter | None = None, **settings: Any) -> Evaluation:
    how = EvalSettings(**settings)
    captions = CaptionSet.read(data, "test", limit=how.limit)
    return evaluate_captions(painter or Painter(), captions, how)


def test_perfect_captions(data: Path) -> None:
    painter = Painter()
    found = _evaluated(data, painter, batch=2, beams=1, repetition_penalty=1.1)
    assert (painter.batches, painter.beams) == ([2, 2, 1], 1)
    assert painter.repetition_penalty == 1.1
    assert found.items == 5
    assert found.predictions[0] == {"image_id": 10, "caption": TEXTS["red"][0]}
    assert found.metrics["BLEU-4"] == pytest.approx(100, abs=1e-4)
    assert found.metrics["ROUGE-L"] == pytest.approx(100)
    assert 300 < found.metrics["CIDEr"] < 1000  # times 100: half of the references is other words


def test_json_is_what_the_contract_says(data: Path) -> None:
    found = _evaluated(data).as_json()
    assert list(found) == ["task", "split", "items", "metrics"]
    assert (found["task"], found["split"], found["items"]) == ("caption", "test", 5)
    names = ["CIDEr", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L"]
    assert list(found["metrics"]) == names
    json.dumps(found)


def test_batch_size_does_not_change_the_result(data: Path) -> None:
    assert _evaluated(data, batch=1) == _evaluated(data, batch=64)


def test_limit_takes_the_first(data: Path) -> None:
    assert [p["image_id"] for p in _evaluated(data, limit=2).predictions] == [10, 11]


def test_unreadable_pictures_are_skipped_and_listed(data: Path) -> None:
    (data / "images" / "green.png").write_bytes(b"not a picture")
    found = _evaluated(data, batch=2, max_bad=0.2)
    assert found.items == 4
    assert [p["image_id"] for p in found.predictions] == [10, 12, 13, 14]
    (skipped,) = found.skipped
    assert isinstance(skipped, Skipped)
    assert skipped.image == "green.png"
    assert "green.png" in skipped.reason


def test_a_whole_batch_may_be_unreadable(data: Path) -> None:
    (data / "images" / "red.png").unlink()
    painter = Painter()
    assert _evaluated(data, painter, batch=1, max_bad=0.2).items == 4
    assert painter.batches == [1, 1, 1, 1]


def test_too_many_unreadable_pictures_stop_the_run(data: Path) -> None:
    (data / "images" / "green.png").write_bytes(b"not a picture")
    with pytest.raises(ArtifactError, match=r"1 of 5 pictures .*green\.png"):
        _evaluated(data)


def test_a_picture_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    data = _dataset(tmp_path / "data", [{"image": "../x.png", "caption": ["a"], "image_id": 1}])
    with pytest.raises(ArtifactError, match=r"\.\./x\.png"):
        _evaluated(data)


def test_nothing_readable_is_an_error(data: Path) -> None:
    for picture in (data / "images").iterdir():
        picture.unlink()
    with pytest.raises(ArtifactError, match="no picture"):
        _evaluated(data, max_bad=1.0)


def test_rows_of_one_picture_are_its_references(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "caption": text, "image_id": "x"} for text in ("one", "two")]
    captions = CaptionSet.read(_dataset(tmp_path / "data", rows, "train"), "train")
    (sample,) = captions.samples
    assert (sample.image_id, sample.references) == ("x", ("one", "two"))


@pytest.mark.parametrize(
    ("images", "ids"),
    [
        (["val2014/COCO_val2014_000000391895.jpg"], [391895]),
        (["a/1.jpg", "b/1.jpg"], ["a/1.jpg", "b/1.jpg"]),
        (["cat.jpg"], ["cat.jpg"]),
    ],
)
def test_ids_of_files_without_ids(tmp_path: Path, images: list[str], ids: list[int | str]) -> None:
    rows = [{"image": image, "caption": ["a dog"]} for image in images]
    captions = CaptionSet.read(_dataset(tmp_path / "data", rows), "test")
    assert [sample.image_id for sample in captions.samples] == ids


def test_an_id_for_two_pictures_is_refused(tmp_path: Path) -> None:
    rows = [{"image": image, "caption": ["a"], "image_id": 7} for image in ("a.png", "b.png")]
    with pytest.raises(ArtifactError, match=r"caption_test\.json: image_id 7 .* a\.png and b\.png"):
        CaptionSet.read(_dataset(tmp_path / "data", rows), "test")


def test_an_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no rows"):
        CaptionSet.read(_dataset(tmp_path / "data", []), "test")


# The drawn world -------------------------------------------------------------------------------


@pytest.fixture
def drawn(data: Path) -> Path:
    """The same pictures, each said to hold a small plain red circle in the top left."""
    thing = Thing(
        shape="circle", colour="red", size="small", texture="plain", row=0, column=0,
        x=0.25, y=0.25, radius=0.1, rgb=(255, 0, 0),
    )  # fmt: skip
    ground = Background(kind="flat", first=(0, 0, 0), second=(0, 0, 0))
    scene = Scene(things=(thing,), background=ground, side=2).to_json()
    scenes = {f"{colour}.png": scene for colour in COLOURS}
    (data / "scenes_test.json").write_text(json.dumps(scenes))
    return data


def test_truth_on_a_drawn_world(drawn: Path) -> None:
    captions = CaptionSet.read(drawn, "test")
    said: dict[int | str, str] = dict.fromkeys(range(10, 15), "a small red circle")  # three facts
    said[13] = "a small blue circle"  # three, but false
    said[14] = "a dog"  # not of this world
    found = judge_captions(captions, said).metrics
    assert found["truth"] == pytest.approx(3 / 5)
    assert found["facts_per_caption"] == pytest.approx(12 / 5)
    assert found["distinct_captions"] == 3
    assert list(found)[-3:] == ["truth", "facts_per_caption", "distinct_captions"]


def test_a_picture_without_scene_is_refused(drawn: Path) -> None:
    scenes = json.loads((drawn / "scenes_test.json").read_text())
    del scenes["blue.png"]
    (drawn / "scenes_test.json").write_text(json.dumps(scenes))
    with pytest.raises(ArtifactError, match=r"scenes_test\.json has no scene for blue\.png"):
        CaptionSet.read(drawn, "test")


# The stage -------------------------------------------------------------------------------------


def test_evaluate_loads_the_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int | None]] = []

    def load(folder: Path, threads: int | None = None) -> Painter:
        asked.append((folder, threads))
        return Painter()

    monkeypatch.setattr(stage, "load", load)
    found = evaluate(tmp_path / "model", data, threads=1, how=EvalSettings(limit=3))
    assert asked == [(tmp_path / "model", 1)]
    assert found.items == 3


def test_other_tasks_are_refused_by_name(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'singing' .* caption"):
        evaluate(tmp_path, data, task="singing")
    with pytest.raises(UsageError, match=r"'retrieval' .* caption"):
        score_predictions(tmp_path / "results.json", data, task="retrieval")
    with pytest.raises(UsageError, match="at least 1"):
        EvalSettings(k=0)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"limit": 0}])
def test_numbers_that_make_no_sense(data: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        _evaluated(data, **wrong)


# Results files ---------------------------------------------------------------------------------


def _results(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_own_predictions_score_the_same_without_pictures(data: Path, tmp_path: Path) -> None:
    found = _evaluated(data)
    results = _results(tmp_path / "results.json", list(reversed(found.predictions)))
    for picture in (data / "images").iterdir():
        picture.unlink()
    assert score_predictions(results, data) == found


def test_ids_may_be_text(data: Path, tmp_path: Path) -> None:
    rows = [{"image_id": str(key), "caption": "a dog"} for key in range(10, 15)]
    found = score_predictions(_results(tmp_path / "results.json", rows), data)
    assert found.predictions[0] == {"image_id": 10, "caption": "a dog"}


def _spoiled() -> Iterator[Any]:
    rows = [{"image_id": key, "caption": "a dog"} for key in range(10, 15)]
    yield pytest.param(rows[:-1], r"no caption for image_id 14, in .*caption_test", id="missing")
    yield pytest.param(rows[:1], r"image_id 11 and 3 more, in", id="several missing")
    yield pytest.param([*rows, rows[2]], r"image_id 12 occurs twice, again in row 5", id="twice")
    yield pytest.param([*rows, rows[0] | {"image_id": 9}], r"image_id 9 not in", id="unknown")
    yield pytest.param([{"image_id": 10}], r'row 0 has no "caption"', id="no caption")
    yield pytest.param([{"caption": "a"}], r'row 0 has no "image_id"', id="no id")
    yield pytest.param(["a dog"], r"row 0 is not an object", id="no object")
    yield pytest.param({"10": "a dog"}, r"is not a list", id="no list")


@pytest.mark.parametrize(("rows", "complaint"), list(_spoiled()))
def test_spoiled_results_name_file_and_id(
    data: Path, tmp_path: Path, rows: object, complaint: str
) -> None:
    path = _results(tmp_path / "results.json", rows)
    with pytest.raises(ArtifactError, match=complaint) as error:
        score_predictions(path, data)
    assert str(path) in str(error.value)
