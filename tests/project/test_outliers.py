"""The page of quantization is held to the record of outliers, and the record to what is claimed."""

import json
from typing import Any

import torch

from tests.project.test_readme_numbers import ROOT, program_of
from tests.tiny import model

FOLDER = ROOT / "quantize"


def record() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((FOLDER / "outliers.json").read_text(encoding="utf-8"))
    return read


def test_the_page_says_what_the_record_says() -> None:
    program = program_of("outlier_quantization")
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    for run in record()["runs"]:
        assert program.table(run) in page


def test_outliers_ruin_plain_8_bits_and_smoothing_or_fall_back_keep_them() -> None:
    runs = {run["factor"]: run["rows"] for run in record()["runs"]}
    assert runs[60.0]["plain"]["lost"] > 0.2
    for rows in runs.values():
        assert rows["float, scaled"]["lost"] == 0
        for way in ("smoothing", "fall-back", "both"):
            assert rows[way]["lost"] < 0.01
        assert rows["smoothing"]["int8_layers"] == rows["smoothing"]["layers"]


def test_the_outliers_that_are_made_change_no_answer() -> None:
    program = program_of("outlier_quantization")
    plain, scaled = (model(["a red circle", "two stars"]) for _ in "ab")
    program.with_outliers(scaled, factor=30.0, channels=3, seed=1)
    pixels, ids = torch.randn(2, 3, 24, 24), torch.tensor([[2, 5, 7], [2, 8, 6]])
    with torch.no_grad():
        said, tokens = [], []
        for each in (plain, scaled):
            tokens.append(each.blip.image_tokens(pixels))
            said.append(each.blip.lm_logits(ids, tokens[-1]))
    torch.testing.assert_close(said[0], said[1], rtol=1e-4, atol=1e-4)
    ratio = (tokens[1] / tokens[0]).median(1).values.median(0).values
    assert int((ratio > 29).sum()) == 3 and int((ratio < 1.01).sum()) == len(ratio) - 3
