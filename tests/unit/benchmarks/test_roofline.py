"""The roofline, and the profiles of devices."""

from pathlib import Path

import pytest

from blip_edge.benchmarks.roofline import DeviceProfile, bound_ms, profile
from blip_edge.errors import UsageError

ROOT = Path(__file__).parents[3]


def device(**peaks: float) -> DeviceProfile:
    figures = {"gemm_gflops": 100.0, "bandwidth_gb_per_s": 10.0, "int8_tops": 1.0, **peaks}
    return DeviceProfile(title="a test", kind="estimated", source="made up", **figures)


def test_arithmetic_or_memory_whichever_takes_longer() -> None:
    # 1 G multiplications are 2 G operations: 20 ms; 100 MB take 10 ms, 400 MB 40 ms.
    assert bound_ms(device(), "fp32", macs=10**9, moved=10**8) == pytest.approx(20)
    assert bound_ms(device(), "fp32", macs=10**9, moved=4 * 10**8) == pytest.approx(40)
    assert bound_ms(device(), "fp16", macs=10**9, moved=0) == pytest.approx(20)
    assert bound_ms(device(), "int8", macs=10**9, moved=0) == pytest.approx(2)


def test_of_a_precision_that_is_not_known_nothing_is_said() -> None:
    assert device(int8_tops=0).peak("int8") is None
    with pytest.raises(UsageError, match="nothing is known of int8 on a test"):
        bound_ms(device(int8_tops=0), "int8", macs=1, moved=1)


@pytest.mark.parametrize("path", sorted((ROOT / "exporters/devices").glob("*.toml")))
def test_every_profile_loads_and_says_where_it_comes_from(path: Path) -> None:
    found = profile(path.stem)
    assert found == profile(path)
    assert found.source and found.title


def test_this_machine_is_measured() -> None:
    here = profile("this")
    assert here.kind == "measured"
    assert here.peak("fp32") and here.bandwidth_gb_per_s > 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gemm_gflops = 1.0", "title"),
        ('title = "a"\nkind = "guessed"', "kind"),
        ("gflops = 1.0", "did you mean 'gemm_gflops'"),
    ],
)
def test_a_damaged_profile_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        profile(path)


@pytest.mark.parametrize("key", ["gemm_gflops", "bandwidth_gb_per_s", "int8_tops"])
def test_peaks_that_make_no_sense(key: str) -> None:
    with pytest.raises(UsageError, match=key):
        device(**{key: -1.0})


def test_an_unknown_device_is_told_the_known_ones() -> None:
    with pytest.raises(UsageError, match="epyc-zen4-2core"):
        profile("toaster")
