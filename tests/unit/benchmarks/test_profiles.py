"""Profiles of devices: those that are there, and damaged ones."""

import re
import tomllib
from pathlib import Path

import pytest

from blip_edge.benchmarks.profiles import Peak, profile
from blip_edge.errors import UsageError
from blip_edge.exporters.recipe import ExportRecipe
from blip_edge.recipe import load

ROOT = Path(__file__).parents[3]
PROFILES = sorted((ROOT / "exporters/devices").glob("*.toml"))
PRESETS = {
    *("amd-zen4", "android-arm64", "arm64-linux", "browser-wasm", "browser-webgpu"),
    *("epyc-zen4-2core", "intel-vnni", "iphone-ane", "mac", "rpi5"),
}
GOOD = """
title = "a"
target = "onnx"
precision = "int8"
threads = 2
gemm_gflops = {value = 1.0, kind = "measured", source = "here"}
bandwidth_gb_per_s = {value = 1.0, kind = "estimated", source = "a data sheet"}
"""


def test_the_promised_ones_are_there() -> None:
    assert {path.stem for path in PROFILES} == PRESETS


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_can_be_exported_for_and_marks_its_peaks(path: Path) -> None:
    found = profile(path.stem)
    assert found == profile(path)
    recipe = load(ExportRecipe, "exporters", base=found.export_keys())
    assert recipe.precision == found.precision
    assert {"gemm_gflops", "bandwidth_gb_per_s"} <= set(found.peaks)
    for peak in found.peaks.values():
        assert peak.kind in ("measured", "estimated") and peak.source


def test_the_table_of_presets_says_what_the_profiles_say() -> None:
    text = (ROOT / "exporters/README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", text, re.M))
    for name in PRESETS:
        found = profile(name)
        cells = [cell.strip() for cell in rows[name].split(" | ")]
        kinds = {peak.kind for peak in found.peaks.values()}
        numbers = [peak and f"{peak.value:g}" for peak in (found.gemm_gflops, found.fp16_gflops)]
        numbers += [peak and f"{peak.value:g}" for peak in (found.int8_tops,)]
        numbers += [f"{found.bandwidth_gb_per_s.value:g}"]
        words = [found.title, f"`{found.target}`", found.precision, str(found.threads)]
        assert cells == [*words, *(number or "" for number in numbers), *kinds]


def test_this_machine_is_measured_and_says_nothing_of_8_bits() -> None:
    here = profile("this")
    assert {peak.kind for peak in here.peaks.values()} == {"measured"}
    assert here.peak("fp32") and here.peak("int8") is None


def test_limits_are_an_export_recipes_keys(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD + "limits = {ios = 18}\n")
    assert profile(path).export_keys() == {"ios": 18, "precision": "int8"}
    assert tomllib.loads(GOOD)["precision"] == "int8"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "title"),
        (GOOD.replace("measured", "guessed"), "kind"),
        (GOOD.replace("threads = 2", "threads = 0"), "threads must be at least 1"),
        (GOOD.replace("onnx", "tflite"), "target"),
        (GOOD.replace('source = "here"', 'source = " "'), "source must not be empty"),
        (GOOD.replace(', source = "here"', ""), "source"),
        (GOOD + 'limits = {precision = "fp32"}', "precision is a key of its own"),
        (GOOD + "gflops = 1.0", "did you mean 'gemm_gflops'"),
    ],
)
def test_a_damaged_profile_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        profile(path)


@pytest.mark.parametrize("value", [-1.0, 0.0, float("inf"), float("nan")])
def test_peaks_that_make_no_sense(value: float) -> None:
    with pytest.raises(UsageError, match="must be positive"):
        Peak(value=value, kind="measured", source="a test")


def test_an_unknown_device_is_told_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'rpi5'"):
        profile("rpi4")
    with pytest.raises(UsageError, match="epyc-zen4-2core"):
        profile("toaster")
