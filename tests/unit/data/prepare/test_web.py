"""Web captions with addresses: what was downloaded is used, what was not is listed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blip_edge.data import CaptionRow, check
from blip_edge.errors import ArtifactError
from tests.unit.data.prepare.conftest import Prepare, Write, skipped

SITE = "http://example.org"


@pytest.fixture
def got(write: Write) -> Path:
    """Where the first two of three addresses were downloaded to."""
    return write("got.tsv", f"{SITE}/0.jpg\t00/0.jpg\n{SITE}/1.jpg\t00/1.jpg\n")


def test_rows_that_were_downloaded(
    write: Write, prepared: Prepare, pictures: Callable[..., Path], got: Path
) -> None:
    cc3m = write("cc3m.tsv", f"a cat\t{SITE}/0.jpg\ntwo dogs\t{SITE}/2.jpg\n")
    cc12m = write("cc12m.tsv", f"{SITE}/1.jpg\ta boat on a lake\n")
    root = pictures("00/0.jpg", "00/1.jpg")
    data = prepared("cc", [cc3m, cc12m], images=root, mapping=got)
    assert data.web() == [
        CaptionRow("00/0.jpg", ("a cat",), "00/0.jpg"),
        CaptionRow("00/1.jpg", ("a boat on a lake",), "00/1.jpg"),
    ]
    # Half of the first table's addresses are dead, which no max_bad is asked about.
    assert len(skipped(data)) == 1
    assert f"cc3m.tsv: row 1: {SITE}/2.jpg was not downloaded" in skipped(data)[0]
    assert check(data).ok


def test_a_download_that_is_gone_is_listed(
    write: Write, prepared: Prepare, pictures: Callable[..., Path], got: Path
) -> None:
    rows = [{"url": f"{SITE}/0.jpg", "caption": "a"}, {"url": f"{SITE}/1.jpg", "caption": "b"}]
    source = write("ccs_filtered.json", rows)
    data = prepared("cc", source, images=pictures("00/1.jpg"), mapping=got)
    assert [row.captions for row in data.web()] == [("b",)]
    assert "row 0: there is no picture 00/0.jpg" in skipped(data)[0]


def test_sbu_and_rows_that_name_pictures(
    write: Write, prepared: Prepare, pictures: Callable[..., Path], got: Path
) -> None:
    root = pictures("00/0.jpg", "00/1.jpg")
    sbu = write("sbu.json", {"image_urls": [f"{SITE}/1.jpg"], "captions": ["a lake"]})
    row = {"image": str(root / "00/0.jpg"), "caption": "a cat"}  # as BLIP's own lists say it
    sources = [sbu, write("cc.jsonl", [row], lines=True), write("more.json", [row])]
    data = prepared("cc", sources, images=root, mapping=got)
    assert [row.image for row in data.web()] == ["00/1.jpg", "00/0.jpg", "00/0.jpg"]


def test_a_mapping_may_be_json(
    write: Write, prepared: Prepare, pictures: Callable[..., Path]
) -> None:
    got = write("got.json", {f"{SITE}/0.jpg": "0.jpg"})
    source = write("cc.tsv", f"a cat\t{SITE}/0.jpg\n")
    assert prepared("cc", source, images=pictures("0.jpg"), mapping=got).web()[0].image == "0.jpg"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (f"a cat {SITE}/0.jpg", "row 1 is not a caption and an address with a tab"),
        (f"a\tcat\t{SITE}/0.jpg", "row 1 is not a caption and an address with a tab"),
        (f"...\t{SITE}/0.jpg", "row 1: the caption is empty after cleaning"),
    ],
)
def test_lines_that_are_no_pairs(
    write: Write, prepared: Prepare, got: Path, content: str, complaint: str
) -> None:
    source = write("cc.tsv", f"a cat\t{SITE}/0.jpg\n{content}\n")
    with pytest.raises(ArtifactError, match=rf"web_train\.json: 1 of 2 .*{complaint}"):
        prepared("cc", source, mapping=got)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("cc.json", {"url": 3}, "is none of: rows of url"),
        ("cc.json", {"image_urls": ["a"], "captions": []}, "0 captions for 1 addresses"),
        ("cc.json", [{"url": SITE}], "row 0 is not a caption"),
    ],
)
def test_documents_that_are_no_pairs(
    write: Write, prepared: Prepare, got: Path, name: str, value: Any, complaint: str
) -> None:
    with pytest.raises(ArtifactError, match=complaint):
        prepared("cc", write(name, value), mapping=got)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("got.tsv", "one\n", r"got\.tsv: row 0 has not two columns"),
        ("got.json", ["a"], r"got\.json is not an object of texts"),
    ],
)
def test_mappings_that_are_none(
    write: Write, prepared: Prepare, name: str, content: Any, complaint: str
) -> None:
    source = write("cc.tsv", f"a cat\t{SITE}/0.jpg\n")
    with pytest.raises(ArtifactError, match=complaint):
        prepared("cc", source, mapping=write(name, content))


def test_nothing_downloaded_is_nothing_prepared(write: Write, prepared: Prepare) -> None:
    with pytest.raises(ArtifactError, match=r"nothing is left for web_train\.json"):
        prepared("cc", write("cc.tsv", f"a cat\t{SITE}/0.jpg\n"))
