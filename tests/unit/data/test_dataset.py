"""Reading a data set: official rows, and one line that names the file when something is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blip_edge.data import CaptionRow, Dataset
from blip_edge.errors import ArtifactError


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Dataset]:
    """A data set with the given annotation files; a string is written as it is."""

    def write(files: dict[str, Any], **description: Any) -> Dataset:
        header = {"name": "toy", "version": "1", "license": "CC0-1.0", **description}
        (tmp_path / "images").mkdir()
        for name, value in {"dataset.json": header, **files}.items():
            text = value if isinstance(value, str) else json.dumps(value)
            (tmp_path / name).write_text(text)
        return Dataset.open(tmp_path)

    return write


def test_captions_keep_a_row_for_each_caption(write: Callable[..., Dataset]) -> None:
    row = {"image": "a.jpg", "caption": "a cat", "image_id": "coco_1"}
    data = write({"caption_train.json": [row, {**row, "caption": "a tabby"}]})
    assert data.captions("train") == [
        CaptionRow("a.jpg", ("a cat",), "coco_1"),
        CaptionRow("a.jpg", ("a tabby",), "coco_1"),
    ]


def test_karpathy_rows_need_no_image_id(write: Callable[..., Dataset]) -> None:
    data = write({"caption_test.json": [{"image": "val2014/a.jpg", "caption": ["one", "two"]}]})
    assert data.captions("test") == [CaptionRow("val2014/a.jpg", ("one", "two"), "val2014/a.jpg")]
    assert data.retrieval("test") == data.captions("test")


def test_retrieval_prefers_rows_of_its_own(write: Callable[..., Dataset]) -> None:
    data = write(
        {
            "caption_test.json": [{"image": "a.jpg", "caption": ["one"]}],
            "retrieval_test.json": [{"image": "b.jpg", "caption": ["two"]}],
        }
    )
    assert [row.image for row in data.retrieval("test")] == ["b.jpg"]


def test_questions_without_answers_and_with_one(write: Callable[..., Dataset]) -> None:
    row = {"question_id": 1, "image": "a.jpg", "question": "what?"}
    data = write({"vqa_test.json": [row], "vqa_train.json": [{**row, "answer": "cat"}]})
    assert data.questions("test")[0].answers == ()
    assert data.questions("train")[0].answers == ("cat",)


def test_official_nlvr_rows_have_no_identifier(write: Callable[..., Dataset]) -> None:
    row = {"sentence": "two dogs", "label": "False", "images": ["a.png", "b.png"]}
    rows = write({"nlvr_dev.json": [row, row]}).sentences("dev")
    assert [(row.identifier, row.label) for row in rows] == [("0", False), ("1", False)]


def test_a_version_may_be_a_number(write: Callable[..., Dataset]) -> None:
    assert write({}, version=1.5).version == "1.5"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('[{"image": "a.jpg", "capt', "not valid JSON"),
        ({"image": "a.jpg"}, "not a list"),
        (["a.jpg"], "row 0 is not an object"),
        ([{"image": "a.jpg"}], 'row 0 has no "caption"'),
        ([{"image": "a.jpg", "caption": []}], '"caption" is empty'),
        ([{"image": "a.jpg", "caption": ["a", 3]}], '"caption" holds 3, not text'),
        ([{"image": None, "caption": "a"}], 'row 0 has no "image"'),
    ],
)
def test_bad_annotations_are_named(
    write: Callable[..., Dataset], content: Any, complaint: str
) -> None:
    data = write({"caption_val.json": content})
    with pytest.raises(ArtifactError, match=r"caption_val\.json") as caught:
        data.captions("val")
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_split_is_named(write: Callable[..., Dataset]) -> None:
    with pytest.raises(ArtifactError, match=r"caption_val\.json is missing"):
        write({}).captions("val")


@pytest.mark.parametrize("field", ["name", "version", "license"])
def test_a_header_needs_its_fields(write: Callable[..., Dataset], field: str) -> None:
    with pytest.raises(ArtifactError, match=rf'dataset\.json has no "{field}"'):
        write({}, **{field: None})


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"dataset\.json"):
        Dataset.open(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is a bundle, not a data set"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize("relative", ["../dataset.json", "/etc/passwd", "a/../../b.png"])
def test_pictures_may_not_leave_the_folder(write: Callable[..., Dataset], relative: str) -> None:
    data = write({})
    with pytest.raises(ArtifactError, match="leaves the folder"):
        data.image_path(relative)
    with pytest.raises(ArtifactError, match="leaves the folder"):
        data.clip_path(relative)


def test_a_link_out_of_the_pictures_is_refused(
    write: Callable[..., Dataset], tmp_path: Path
) -> None:
    data = write({})
    (tmp_path / "images" / "out").symlink_to("/etc")
    with pytest.raises(ArtifactError, match="leaves the folder"):
        data.image_path("out/passwd")


def test_the_image_root_may_not_lead_away(write: Callable[..., Dataset]) -> None:
    with pytest.raises(ArtifactError, match=r"dataset\.json.*leaves the folder"):
        write({}, image_root="../elsewhere")


@pytest.mark.parametrize("change", ["annotation", "picture", "none"])
def test_the_digest_is_of_what_was_learned_from(
    write: Callable[..., Dataset], tmp_path: Path, change: str
) -> None:
    data = write({"caption_val.json": [{"image": "a.png", "caption": "a"}]})
    (tmp_path / "images" / "a.png").write_bytes(b"12")
    before = data.digest()
    if change == "annotation":
        (tmp_path / "caption_val.json").write_text("[]")
    elif change == "picture":
        (tmp_path / "images" / "a.png").write_bytes(b"123")
    else:
        (tmp_path / "provenance.json").write_text("{}")
    assert (data.digest() == before) == (change == "none")


VISDIAL = {
    "version": "1.0",
    "split": "val",
    "data": {
        "questions": ["is it sunny", "how many"],
        "answers": ["yes", "no", "two"],
        "dialogs": [
            {
                "image_id": 17,
                "caption": "a beach",
                "dialog": [
                    {"question": 1, "answer": 2, "answer_options": [0, 2, 1], "gt_index": 1}
                ],
            }
        ],
    },
}


def test_official_visdial(write: Callable[..., Dataset]) -> None:
    dense = [{"image_id": 17, "round_id": 1, "gt_relevance": [0, 1, 0.4]}]
    data = write({"visdial_val.json": VISDIAL, "visdial_val_dense.json": dense})
    dialog = data.dialogs("val")[0]
    assert dialog.image == "VisualDialog_val2018_000000000017.jpg"
    assert dialog.rounds[0].question == "how many"
    assert dialog.rounds[0].options[dialog.rounds[0].gt] == "two"
    assert dialog.rounds[0].relevance == (0.0, 1.0, 0.4)


def test_visdial_numbers_outside_the_tables_are_named(write: Callable[..., Dataset]) -> None:
    text = json.dumps(VISDIAL).replace('"gt_index": 1', '"gt_index": 3')
    with pytest.raises(ArtifactError, match=r"visdial_val\.json.*row 0.*gt_index.*outside"):
        write({"visdial_val.json": text}).dialogs("val")


def test_a_line_of_jsonl_may_hold_what_python_calls_line_ends(
    write: Callable[..., Dataset],
) -> None:
    said = "a cat\u2028on a mat"
    line = json.dumps({"clip_name": "a", "caption": said}, ensure_ascii=False)
    data = write({"video_retrieval_test.jsonl": f"{line}\n{line}\n"})
    assert [row.caption for row in data.clips()] == [said, said]


def test_a_link_to_nothing_is_no_picture(write: Callable[..., Dataset]) -> None:
    """No row names it; a training would end in a traceback before its first step."""
    data = write({})
    before = data.digest()
    (data.folder / "images" / "gone.jpg").symlink_to("nowhere.jpg")
    assert data.digest() == before


def test_a_broken_line_of_jsonl_is_named(write: Callable[..., Dataset]) -> None:
    data = write({"video_retrieval_test.jsonl": '{"clip_name": "a", "caption": "b"}\n{"clip'})
    with pytest.raises(ArtifactError, match=r"video_retrieval_test\.jsonl"):
        data.clips("test")
