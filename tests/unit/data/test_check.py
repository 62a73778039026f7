"""A check lists everything that is wrong, and finds nothing wrong with a drawn world."""

import json
import shutil
from pathlib import Path

import pytest

from blip_edge.data import Dataset, check


@pytest.fixture
def copy(drawn: Dataset, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn.folder, tmp_path / "copy"))


def test_a_drawn_world_is_sound(drawn: Dataset) -> None:
    report = check(drawn)
    assert report.bad == ()
    assert report.ok
    assert report.images == 24 + 10 + 12 + 8 + 40 + 3
    assert report.rows["caption_train.json"] == 24 * 5


def test_every_bad_picture_and_row_is_listed(copy: Path) -> None:
    rows = json.loads((copy / "caption_val.json").read_text())
    del rows[3]["caption"]
    rows[5]["image"] = "../caption_val.json"
    (copy / "caption_val.json").write_text(json.dumps(rows))
    (copy / "images" / rows[1]["image"]).write_bytes(b"not a picture")
    (copy / "images" / rows[2]["image"]).unlink()
    found = {(row.row, row.reason) for row in check(copy).bad if row.file == "caption_val.json"}
    assert {number for number, _ in found} == {1, 2, 3, 5}
    reasons = " ".join(reason for _, reason in found)
    assert all(
        words in reasons for words in ("cannot be decoded", "no such", '"caption"', "leaves")
    )


@pytest.mark.parametrize(
    "file", ["vqa_test.json", "visdial_val.json", "video_qa_test.jsonl", "answer_list.json"]
)
def test_a_truncated_file_does_not_stop_the_check(copy: Path, file: str) -> None:
    whole = (copy / file).read_text()
    (copy / file).write_text(whole[: len(whole) // 2])
    report = check(copy)
    assert [(row.file, row.row) for row in report.bad] == [(file, None)]
    assert "caption_train.json" in report.rows


def test_missing_clips_are_listed(copy: Path) -> None:
    (copy / "videos" / "video1.png").unlink()
    assert {row.file for row in check(copy).bad} == {
        "video_retrieval_test.jsonl",
        "video_qa_test.jsonl",
    }


def test_an_empty_data_set_is_not_sound(tmp_path: Path) -> None:
    header = {"name": "toy", "version": "1", "license": "CC0-1.0"}
    (tmp_path / "dataset.json").write_text(json.dumps(header))
    assert not check(tmp_path).ok
