"""The page of a bootstrapped data set shows what was counted, and says what is not known."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from blip_edge.benchmarks.capfilt_page import capfilt_page, is_bootstrapped
from blip_edge.errors import ArtifactError
from tests.conftest import Run


def _kind(texts: int, kept: int, **more: Any) -> dict[str, Any]:
    share = {"distinct_captions": 0.75, "distinct_1": 0.5, "distinct_2": 0.6}
    dropped = (texts - kept) / texts if texts else None
    bins = [texts - kept, *[0] * 18, kept]
    cosines = [0] * 30 + [texts] + [0] * 9
    figures = {"texts": texts, "kept": kept, "noise_ratio": dropped, "histogram": bins}
    figures["itc_histogram"] = cosines
    return {**figures, "diversity": share, **more}


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    folder = tmp_path / "clean"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (9, 9), "red").save(folder / "images" / "a.png")
    header = {"name": "web", "version": "1", "license": "CC0-1.0"}
    (folder / "dataset.json").write_text(json.dumps(header))
    truth = {"known": 40, "right": 0.6, "right_of_kept": 0.9, "kept_of_right": 0.8, "roc_auc": 0.97}
    row = {"image": "a.png", "caption": "<b>red</b>", "source": "web", "itm": 0.25, "itc": 0.5}
    new = {**row, "image": "in-a-tar", "source": "synthetic", "confidence": 0.75}
    found = {
        "pictures": 40,
        "skipped": 0,
        "without_text": 3,
        "web": _kind(40, 30, truth=truth),
        "synthetic": _kind(20, 18, confidence_histogram=[*[0] * 19, 20]),
        "disliked": [{"word": "click", "texts": 9, "dropped": 0.875}],
        "examples": {"kept": [], "dropped": [row, new]},
        "recipe": {"threshold": 0.5, "min_itc": 0.5, "min_confidence": 0.75},
    }
    (folder / "capfilt.json").write_text(json.dumps(found))
    return folder


def test_the_page_shows_what_was_counted(clean: Path, tmp_path: Path) -> None:
    assert is_bootstrapped(clean)
    said = capfilt_page(clean, tmp_path / "page.html").read_text()
    words = " ".join(re.sub(r"<[^>]+>", " ", said.split("<body>")[1]).split())
    assert "40 pictures: of 40 texts of the web 30 stay (25.0 % dropped)" in words
    assert "3 pictures are left without a text" in words
    assert "10.0 % of those that stay are wrong, and 20.0 % of the right ones are lost" in words
    assert "Texts that the captioner wrote: nobody knows how many" in words
    assert "click (87.5 %)" in words
    assert "25.0 % of the new texts say word for word" in words
    assert "&lt;b&gt;red&lt;/b&gt;" in said  # a text is no markup
    assert said.count("data:image/png;base64,") == 1  # the other picture is in a tar
    assert "http" not in said
    # The upper half of the probabilities, and the upper quarter of the cosines, of both sources;
    # of the captioner's own the upper quarter of its confidence.
    assert said.count('class="stays"') == 2 * (10 + 10) + 5
    assert "0.50 to 0.55: 40" in said
    assert "cosine of their embeddings" in words
    assert "0.25, cosine 0.50 " in words and "0.25, cosine 0.50, confidence 0.75 " in words


def test_where_the_truth_is_known_a_captioners_confidence_is_held_to_it(
    clean: Path, tmp_path: Path
) -> None:
    found = json.loads((clean / "capfilt.json").read_text())
    found["synthetic"]["truth"] = {**found["web"]["truth"], "confidence_roc_auc": 0.8125}
    (clean / "capfilt.json").write_text(json.dumps(found))
    said = capfilt_page(clean, tmp_path / "page.html").read_text()
    words = " ".join(re.sub(r"<[^>]+>", " ", said).split())
    assert "ROC-AUC of the captioner's confidence 0.812" in words.replace("&#39;", "'")
    assert "nobody knows how many" not in words


def test_without_a_filter_there_is_nothing_to_draw(clean: Path, tmp_path: Path) -> None:
    found = json.loads((clean / "capfilt.json").read_text())
    for source in ("web", "synthetic"):
        found[source] |= {"histogram": [0] * 20, "itc_histogram": [0] * 40}
    found["synthetic"]["confidence_histogram"] = [0] * 20
    (clean / "capfilt.json").write_text(json.dumps(found))
    assert '<ol class="hist"' not in capfilt_page(clean, tmp_path / "page.html").read_text()


def test_report_takes_it_alone(clean: Path, tmp_path: Path, run: Run) -> None:
    page = tmp_path / "page.html"
    assert run("report", clean, "-o", page)[0] == 0
    code, _, err = run("report", clean, clean, "-o", tmp_path / "other.html")
    assert (code, err.count("\n")) == (2, 1)
    assert "give it alone" in err


def test_figures_of_another_kind_are_refused(clean: Path, tmp_path: Path) -> None:
    (clean / "capfilt.json").write_text('{"web": 3}')
    with pytest.raises(ArtifactError, match=r"capfilt\.json: not what capfilt writes"):
        capfilt_page(clean, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
