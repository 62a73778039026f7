"""How fast a device can be at best: arithmetic, or memory, whichever takes longer.

Williams et al., "Roofline: an insightful visual performance model", CACM 52(4), 2009. It is no
forecast: programs reach a part of it, and only what stays in the processor's caches from one run to
the next, instead of coming from memory, can be faster.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict

from blip_edge.benchmarks.machine import machine
from blip_edge.errors import UsageError
from blip_edge.recipe import load

__all__ = ["THIS", "DeviceProfile", "Precision", "bound_ms", "profile"]

Precision = Literal["fp32", "fp16", "int8"]

THIS = "this"
"""The profile that is measured when it is asked for: that of this machine."""

_STAGE = "exporters/devices"


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """What a device does at its best."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    title: str
    """What the device is."""
    kind: Literal["measured", "estimated"]
    """Whether programs reached these figures, or a data sheet promises them."""
    gemm_gflops: float
    """float32 matrix product, 10^9 operations a second; a multiplication that is added is two."""
    int8_tops: float = 0.0
    """8-bit matrix product, 10^12 operations a second; 0: not known."""
    bandwidth_gb_per_s: float
    """To and from memory, 10^9 bytes a second."""
    source: str
    """Where the figures come from."""

    def __post_init__(self) -> None:
        for name in ("gemm_gflops", "bandwidth_gb_per_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UsageError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.int8_tops < float("inf"):
            raise UsageError(f"int8_tops must not be negative, got {self.int8_tops}")

    def peak(self, precision: Precision) -> float | None:
        """Operations a second, None if unknown. fp16 is of the weights, and computes in float32."""
        peak = self.int8_tops * 1e12 if precision == "int8" else self.gemm_gflops * 1e9
        return peak or None


def profile(name: str | Path) -> DeviceProfile:
    """A device's profile by name or file; `this` measures this machine, in less than two seconds.

    Raises:
        UsageError: there is none, or its figures make no sense.
    """
    if str(name) != THIS:
        return load(DeviceProfile, _STAGE, name)
    here = machine(measure=True)
    assert here.peaks is not None
    return DeviceProfile(
        title=f"this machine, {here.cpu}",
        kind="measured",
        gemm_gflops=here.peaks.gemm_gflops,
        bandwidth_gb_per_s=here.peaks.copy_gb_per_s,
        source="measured now, as doctor does; of 8-bit products nothing is known",
    )


def bound_ms(device: DeviceProfile, precision: Precision, *, macs: int, moved: int) -> float:
    """Milliseconds by the roofline: max(2 · macs / peak, bytes / bandwidth).

    All multiplications of an 8-bit graph are taken for 8-bit ones, which those of attention are
    not.

    Args:
        device: whose peaks.
        precision: of what is multiplied.
        macs: multiplications that are added up.
        moved: bytes to and from memory.

    Raises:
        UsageError: the device's peak at this precision is not known.
    """
    peak = device.peak(precision)
    if peak is None:
        raise UsageError(f"nothing is known of {precision} on {device.title}")
    return 1e3 * max(2 * macs / peak, moved / (device.bandwidth_gb_per_s * 1e9))
