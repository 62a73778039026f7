"""A check lists everything that is wrong, and finds nothing wrong with a drawn world."""

import io
import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from blip_edge.data import BadRow, Dataset, check, check_shards


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
    ("file", "key", "text"),
    [
        *(("caption_train.json", "caption", text) for text in ("...", [""], " ")),
        *(("web_train.json", "caption", "!"), ("nlvr_train.json", "sentence", "...")),
        ("vqa_train.json", "question", " ?"),
    ],
)
def test_rows_without_words_are_listed(copy: Path, file: str, key: str, text: Any) -> None:
    """Training leaves them out, and stops when they are many."""
    rows = json.loads((copy / file).read_text())
    rows[2][key] = text
    (copy / file).write_text(json.dumps(rows))
    (bad,) = check(copy).bad
    assert (bad.file, bad.row) == (file, 2)
    assert "has no words" in bad.reason


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


def test_the_report_has_the_order_of_the_rows(copy: Path) -> None:
    rows = json.loads((copy / "caption_val.json").read_text())
    for row in rows[::2]:
        (copy / "images" / row["image"]).write_bytes(b"not a picture")
    found = check(copy).bad
    assert found == check(copy).bad
    numbers = [row.row for row in found if row.file == "caption_val.json"]
    assert numbers == list(range(0, len(rows), 2))


def test_lists_of_what_was_left_out_are_no_annotations(copy: Path) -> None:
    (copy / "skipped.jsonl").write_text('{"reason": "a"}\n{"reason": "b"}\n')
    assert check(copy).ok
    (copy / "skipped.jsonl").write_text('{"reason": "a"}\n{"rea')
    assert [row.file for row in check(copy).bad] == ["skipped.jsonl"]


@pytest.fixture
def video(copy: Path) -> Path:
    """A drawn clip that became a video, whole in its first half only."""
    (copy / "videos" / "video1.png").unlink()
    path = copy / "videos" / "video1.mp4"
    path.write_bytes(b"not a video")
    return path


def test_videos_are_opened_when_they_can_be(video: Path) -> None:
    pytest.importorskip("av")
    found = check(video.parent.parent).bad
    assert {row.file for row in found} == {"video_retrieval_test.jsonl", "video_qa_test.jsonl"}
    assert all("video1.mp4: cannot be decoded" in row.reason for row in found)


def test_videos_are_looked_for_without_pyav(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert check(video.parent.parent).ok


def shard(path: Path, *files: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_shards_are_checked_as_folders_are(drawn: Dataset, tmp_path: Path) -> None:
    picture = next((drawn.folder / "images" / "test").iterdir()).read_bytes()
    good = [("1.png", picture), ("1.txt", b"a"), ("2.png", picture), ("2.txt", b"b")]
    shard(tmp_path / "0.tar", *good)
    shard(tmp_path / "1.tar", ("1.png", b"no picture"), ("1.txt", b"a"), *good[2:])
    cut = shard(tmp_path / "2.tar", *good)
    cut.write_bytes(cut.read_bytes()[: 512 + len(picture) // 2])
    shard(tmp_path / "3.tar")
    report = check_shards([tmp_path / "{0..3}.tar"])
    assert report.rows == {str(tmp_path / f"{n}.tar"): rows for n, rows in enumerate((2, 2, 0, 0))}
    assert report.images == 3
    assert [(row.file, row.row) for row in report.bad] == [
        (str(tmp_path / "1.tar"), 0),
        (str(tmp_path / "2.tar"), None),
        (str(tmp_path / "3.tar"), None),
    ]
    words = ("1: cannot be decoded", "damaged or truncated", "holds no samples")
    assert all(word in row.reason for word, row in zip(words, report.bad, strict=True))
    assert isinstance(report.bad[0], BadRow)
    assert check_shards([tmp_path / "0.tar"]).ok
