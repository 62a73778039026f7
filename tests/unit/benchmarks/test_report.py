"""The page: well-formed, alone in its file, honest about what was missed."""

import base64
import re
import warnings
from copy import deepcopy
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_edge.artifact import write_json
from blip_edge.benchmarks.report import report, report_run, verdict
from blip_edge.errors import ArtifactError

VOID = {"meta", "img", "br", "hr", "input", "link"}

SUMMARY: dict[str, Any] = {
    "stages": {
        "teacher": {
            "parameters": 4_000_000,
            "bytes": 16_000_000,
            "CIDEr": 400.0,
            "truth": 0.99,
            "facts_per_caption": 3.5,
            "distinct_captions": 321,
            "truth_unseen": 0.9,
        },
        "student": {"parameters": 900_000, "bytes": 4_000_000, "CIDEr": 390.0},
    },
    "bundles": {
        "onnx": {
            "bytes": 1_000_000,
            "CIDEr": 388.25,
            "p50_ms": 6.5,
            "p90_ms": 7.25,
            "max_abs_diff": 0.12,
            "precision": "int8",
        },
        "openvino": {"bytes": 900_000, "CIDEr": 387.0, "p50_ms": 8.0, "precision": "int8"},
        "coreml": {
            "bytes": 2_000_000,
            "CIDEr": 389.0,
            "p50_ms": None,
            "p90_ms": None,
            "precision": "fp16",
            "note": "simulated on this machine",
        },
    },
    "goals": [
        {"name": "INT8 loses little", "goal": "at most 1 %", "measured": "3.1 %", "met": False},
        {"name": "small", "goal": 10, "measured": 16.0, "met": True},
        {"name": "phone", "goal": "under 10 ms", "measured": None, "met": None},
    ],
    "samples": [
        {
            "image": "a.png",
            "reference": "a red circle",
            "captions": {
                "teacher": {"text": "a red circle", "true": True},
                "onnx": {"text": "a blue circle", "true": False, "precision": "int8"},
                "student": {"text": "<script>alert(1)</script>", "true": None},
            },
        }
    ],
    "data": {"name": "shapes", "test": 500, "sha256": "ab" * 32},
    "machine": {"cpu": "AMD EPYC", "cores": 2, "memory_bytes": 25_000_000_000, "packages": {}},
    "measurement": {"threads": 2, "runs": 64},
    "seconds": 754.0,
    "steps": [{"name": "train", "seconds": 600.0}, {"name": "distil", "seconds": 154.0}],
    "notes": ["Drawn pictures are no photographs."],
}


class Page(HTMLParser):
    """Every tag is closed by its own, in order; texts and attributes are kept."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def make_run(folder: Path) -> Path:
    """A run folder with one tiny picture."""
    folder.mkdir()
    Image.new("RGB", (24, 16), "red").save(folder / "a.png")
    write_json(folder / "summary.json", SUMMARY)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "first")


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    page = report_run(make_run(folder / "run"), folder / "report.html")
    return page.read_text(encoding="utf-8")


def changed(**changes: Any) -> dict[str, Any]:
    return deepcopy(SUMMARY) | changes


def test_the_page_is_well_formed(html: str) -> None:
    page = Page(html)
    assert html.startswith("<!doctype html>")
    assert page.all("html")[0]["lang"] == "en"
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for reference in re.findall(r"url\(#([^)]+)\)", html):
        assert reference in ids
    for _, attributes in page.tags:
        assert (attributes.get("aria-labelledby") or ids[0]) in ids


def test_the_page_stands_alone(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:image/png;base64,", "#")), (tag, value)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    assert "@import" not in html
    assert re.findall(r"url\((?!#)", html) == []


def test_captions_are_text_and_nothing_else(html: str) -> None:
    assert "<script>" not in html
    assert "<script>alert(1)</script>" in Page(html).words()


def test_names_from_outside_are_escaped_in_plots_too(tmp_path: Path) -> None:
    bundles = {"<b>$x$": {"bytes": 1000, "CIDEr": 1.0, "p50_ms": 2.0, "precision": "<i>"}}
    summary = changed(bundles=bundles, samples=[])
    text = report(summary, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<i>" not in text.lower()
    assert "<b>$x$" not in text
    assert "<b>$x$ <I>" in Page(text).words()


def test_a_missed_goal_is_seen(html: str) -> None:
    words = Page(html).words()
    assert "1 of 3 goals missed: INT8 loses little." in words
    assert "INT8 loses little at most 1 % 3.1 % ✗ no" in words
    assert "phone under 10 ms – not measured" in words
    assert 'class="missed"' in html


def test_true_and_false_are_said_in_words(html: str) -> None:
    words = Page(html).words()
    assert "Teacher ✓ true a red circle" in words
    assert "ONNX Runtime INT8 ✗ false a blue circle" in words


def test_numbers_are_in_their_rows(html: str) -> None:
    words = Page(html).words()
    assert "Teacher 4 M 16.0 400.0 99.0 % 90.0 % 3.50 321 – – –" in words
    assert "ONNX Runtime INT8 – 1.00 388.2 – – – – 6.50 7.25 0.12" in words
    assert "Core ML FP16 – 2.00 389.0 – – – – – – –" in words
    assert "Core ML FP16: simulated on this machine" in words


def test_plots_show_the_timed_bundles_only(html: str) -> None:
    labels = [attributes.get("aria-label") or "" for attributes in Page(html).all("div")]
    [latency] = [label for label in labels if label.startswith("Quality against latency")]
    assert "ONNX Runtime INT8: 6.50 ms, CIDEr 388.2" in latency
    assert "Core ML" not in latency
    assert "Nobody is both faster and better than" not in latency  # OpenVINO is beaten in both
    [sizes] = [label for label in labels if label.startswith("Size")]
    assert "Core ML FP16: 2.00 MB" in sizes
    assert "#0a0b" not in html  # every stand-in has become one of the page's colours


def test_the_front_is_told_in_words_too(tmp_path: Path) -> None:
    slower = SUMMARY["bundles"]["openvino"] | {"CIDEr": 395.0}
    bundles = SUMMARY["bundles"] | {"openvino": slower}
    page = report(SUMMARY | {"bundles": bundles, "samples": []}, tmp_path / "page.html")
    words = "Nobody is both faster and better than ONNX Runtime INT8 and OpenVINO INT8"
    assert words in page.read_text(encoding="utf-8")


def test_tables_and_pictures_can_be_heard(html: str) -> None:
    page = Page(html)
    assert all(attributes.get("scope") for attributes in page.all("th"))
    [picture] = page.all("img")
    assert picture["alt"] == "Test picture a.png: a red circle"
    assert picture["class"] == "tiny"
    encoded = (picture["src"] or "").removeprefix("data:image/png;base64,")
    assert Image.open(BytesIO(base64.b64decode(encoded))).size == (24, 16)


def test_a_photograph_is_made_smaller(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200), "blue").save(tmp_path / "a.png")
    page = Page(report(SUMMARY, tmp_path / "r.html").read_text(encoding="utf-8"))
    [picture] = page.all("img")
    assert "class" not in picture
    encoded = (picture["src"] or "").removeprefix("data:image/png;base64,")
    assert Image.open(BytesIO(base64.b64decode(encoded))).size == (480, 360)


def test_an_empty_summary_still_gives_a_page(tmp_path: Path) -> None:
    page = Page(report({}, tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "No goals were set." in page.words()
    assert page.all("svg") == []


def test_several_runs_share_a_page(run: Path, tmp_path: Path) -> None:
    second = make_run(tmp_path / "second")
    text = report_run([run, second], tmp_path / "r.html").read_text(encoding="utf-8")
    test_the_page_is_well_formed(text)
    assert len(Page(text).all("article")) == 2


def test_the_same_summary_gives_the_same_page(run: Path, tmp_path: Path) -> None:
    pages = [report_run(run, tmp_path / name).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


def test_letters_that_the_plots_font_lacks_are_no_error(tmp_path: Path) -> None:
    bundles = {"端": {"bytes": 1000, "CIDEr": 1.0, "p50_ms": 2.0}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report(changed(bundles=bundles, samples=[]), tmp_path / "r.html")


def test_what_cannot_be_shown_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"summary\.json is missing"):
        report_run(tmp_path, tmp_path / "r.html")
    (run / "a.png").write_bytes(b"no picture")
    with pytest.raises(ArtifactError, match=r"a\.png"):
        report_run(run, tmp_path / "r.html")
    with pytest.raises(ArtifactError, match="not the summary of a run"):
        report({"goals": [{"met": True}]}, tmp_path / "r.html")
    write_json(run / "summary.json", ["a list"])
    with pytest.raises(ArtifactError, match="not the summary of a run"):
        report_run(run, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    page = tmp_path / "r.html"
    page.write_text("mine")
    with pytest.raises(ArtifactError, match="--force"):
        report({}, page, force=False)
    assert page.read_text() == "mine"
    with pytest.raises(ArtifactError, match="cannot be written"):
        report({}, page / "below.html")


def test_the_verdict_names_the_fastest_bundle_and_the_goals() -> None:
    assert verdict(SUMMARY) == (
        "ONNX Runtime INT8 captions a picture in 6.50 ms, is 16.0 times smaller than the teacher "
        "and reaches CIDEr 388.2 against the teacher's 400.0. "
        "1 of 3 goals missed: INT8 loses little."
    )
    met = [{"name": "a", "met": True}]
    assert verdict({"goals": met}) == "All 1 goals met."
    assert "1 not measured" in verdict({"goals": [*met, {"name": "b", "met": None}]})
