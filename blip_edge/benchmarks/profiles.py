"""Devices that bundles are made for: what runs them there, and what the device does at its best.

A profile is a TOML file in `exporters/devices`. `export --preset` takes target, precision and
limits from it, `inspect --student --device` its peaks. Each peak says for itself whether it was
measured or is an estimate, and where it comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from blip_edge.benchmarks.machine import cores, machine
from blip_edge.errors import UsageError
from blip_edge.recipe import load
from blip_edge.runtime.manifest import Target

__all__ = ["THIS", "DeviceProfile", "Peak", "Precision", "profile"]

Precision = Literal["fp32", "fp16", "int8"]

THIS = "this"
"""The profile that is measured when it is asked for: that of this machine."""

_STAGE = "exporters/devices"


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The most of something that a device does in a second."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    value: float
    kind: Literal["measured", "estimated"]
    """Whether a program reached it, or data sheets promise it."""
    source: str
    """Of a measurement how, of an estimate from which figures."""

    def __post_init__(self) -> None:
        if not (self.value > 0 and isfinite(self.value)):
            raise UsageError(f"a peak's value must be positive, got {self.value}")
        if not self.source.strip():
            raise UsageError("a peak's source must not be empty")


@dataclass(frozen=True, kw_only=True)
class DeviceProfile:
    """How a bundle should be for a device, and what the device does at its best."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    title: str
    """What the device is."""
    target: Target
    """What runs bundles there."""
    precision: Precision
    """Of the bundle that suits it."""
    threads: int
    """That the engine should have there."""
    limits: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """Keys of an export's recipe, such as sizes, that the device takes."""
    gemm_gflops: Peak
    """float32 matrix product, 10^9 operations a second; a multiplication that is added is two."""
    fp16_gflops: Peak | None = None
    """The same in float16; without it fp16 is of the weights, and computes in float32."""
    int8_tops: Peak | None = None
    """8-bit matrix product, 10^12 operations a second; none: not known, or the target has none."""
    bandwidth_gb_per_s: Peak
    """To and from memory, 10^9 bytes a second."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise UsageError(f"threads must be at least 1, got {self.threads}")
        for key in ("precision", "target"):
            if key in self.limits:
                raise UsageError(f"{key} is a key of its own, not one of limits")

    @property
    def peaks(self) -> dict[str, Peak]:
        """Those that are known, by field."""
        names = ("gemm_gflops", "fp16_gflops", "int8_tops", "bandwidth_gb_per_s")
        known = {name: getattr(self, name) for name in names}
        return {name: peak for name, peak in known.items() if peak is not None}

    def peak(self, precision: Precision) -> float | None:
        """Operations a second, None if unknown."""
        if precision == "int8":
            return None if self.int8_tops is None else self.int8_tops.value * 1e12
        half = self.fp16_gflops if precision == "fp16" else None
        return (half or self.gemm_gflops).value * 1e9

    def export_keys(self) -> dict[str, Any]:
        """What an export's recipe takes from here."""
        return {**self.limits, "precision": self.precision}


def profile(name: str | Path) -> DeviceProfile:
    """A device's profile by name or file; `this` measures this machine, in less than two seconds.

    Raises:
        UsageError: there is none, or its figures make no sense.
    """
    if str(name) != THIS:
        return load(DeviceProfile, _STAGE, name)
    here = machine(measure=True)
    assert here.peaks is not None
    source = "just now, as doctor does"
    return DeviceProfile(
        title=f"this machine, {here.cpu}",
        target="onnx",
        precision="fp32",
        threads=cores(),
        gemm_gflops=Peak(value=here.peaks.gemm_gflops, kind="measured", source=source),
        bandwidth_gb_per_s=Peak(value=here.peaks.copy_gb_per_s, kind="measured", source=source),
    )
