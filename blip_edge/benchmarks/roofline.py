"""How fast a device can be at best: arithmetic, or memory, whichever takes longer.

Williams et al., "Roofline: an insightful visual performance model", CACM 52(4), 2009. It is no
forecast: programs reach a part of it, and only what stays in the processor's caches from one run to
the next, instead of coming from memory, can be faster.
"""

from blip_edge.benchmarks.profiles import DeviceProfile, Precision
from blip_edge.errors import UsageError

__all__ = ["bound_ms", "least_ms"]


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
    return least_ms(macs, moved, peak, device.bandwidth_gb_per_s.value * 1e9)


def least_ms(macs: int, moved: int, peak: float, bandwidth: float) -> float:
    """Milliseconds for `macs` at `peak` operations, and `moved` bytes at `bandwidth`, a second."""
    return 1e3 * max(2 * macs / peak, moved / bandwidth)
