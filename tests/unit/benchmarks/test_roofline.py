"""The roofline: arithmetic, or memory."""

import pytest

from blip_edge.benchmarks.profiles import DeviceProfile, Peak
from blip_edge.benchmarks.roofline import bound_ms
from blip_edge.errors import UsageError


def peak(value: float) -> Peak:
    return Peak(value=value, kind="estimated", source="made up")


def device(**peaks: Peak | None) -> DeviceProfile:
    figures = {
        "gemm_gflops": peak(100.0),
        "bandwidth_gb_per_s": peak(10.0),
        "int8_tops": peak(1.0),
        **peaks,
    }
    return DeviceProfile(
        title="a test",
        target="onnx",
        precision="fp32",
        threads=1,
        **figures,  # type: ignore[arg-type]
    )


def test_arithmetic_or_memory_whichever_takes_longer() -> None:
    # 1 G multiplications are 2 G operations: 20 ms; 100 MB take 10 ms, 400 MB 40 ms.
    assert bound_ms(device(), "fp32", macs=10**9, moved=10**8) == pytest.approx(20)
    assert bound_ms(device(), "fp32", macs=10**9, moved=4 * 10**8) == pytest.approx(40)
    assert bound_ms(device(), "fp16", macs=10**9, moved=0) == pytest.approx(20)
    assert bound_ms(device(), "int8", macs=10**9, moved=0) == pytest.approx(2)
    half = device(fp16_gflops=peak(400.0))
    assert bound_ms(half, "fp16", macs=10**9, moved=0) == pytest.approx(5)
    assert bound_ms(half, "fp32", macs=10**9, moved=0) == pytest.approx(20)


def test_of_a_precision_that_is_not_known_nothing_is_said() -> None:
    assert device(int8_tops=None).peak("int8") is None
    with pytest.raises(UsageError, match="nothing is known of int8 on a test"):
        bound_ms(device(int8_tops=None), "int8", macs=1, moved=1)
