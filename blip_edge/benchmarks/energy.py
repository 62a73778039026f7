"""Joules that the machine needed, where its system tells: Linux's RAPL, or `powermetrics` on a Mac.

The processor's packages and the memory beside them count what everybody on the machine takes, idle
power too; what is plugged in beside them, such as a graphics card, does not count. Linux lets only
root read the counters, unless the machine's owner has decided otherwise. Where they are missing or
closed nothing is known, and nothing is guessed.

https://www.kernel.org/doc/html/latest/power/powercap/powercap.html
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from blip_edge.benchmarks.powermetrics import Powermetrics

__all__ = ["EnergyMeter", "Meter", "metered"]

_POWERCAP = Path("/sys/class/powercap")


class Meter(Protocol):
    """Tells energy in laps."""

    def lap(self) -> float | None:
        """Joules since the last lap; None where nobody tells."""
        ...


@contextmanager
def metered() -> Iterator[Meter]:
    """What this machine has to measure with, while the block runs."""
    samples = Powermetrics.start()
    try:
        yield samples or EnergyMeter()
    finally:
        if samples is not None:
            samples.close()


class EnergyMeter:
    """Counters of energy, read in laps.

    They start from zero again at their range, after minutes on a large server: laps have to be
    shorter than that.

    Args:
        root: the folder of the kernel's power zones.
    """

    def __init__(self, root: Path = _POWERCAP) -> None:
        # Cores are part of their package, psys of the whole: each would be counted twice.
        self._zones = [zone for zone in sorted(root.glob("intel-rapl:*")) if _counts(zone)]
        self._last = self._read()

    def lap(self) -> float | None:
        """Joules since the last lap, or since the beginning; None where nobody tells."""
        before, now = self._last, self._read()
        self._last = now
        if before is None or now is None:
            return None
        return (
            sum(
                (after - earlier) % reach
                for (earlier, _), (after, reach) in zip(before, now, strict=True)
            )
            / 1e6
        )

    def _read(self) -> list[tuple[int, int]] | None:
        """Of each zone its counter and where it wraps, in microjoules."""
        try:
            found = [
                (_number(zone / "energy_uj"), _number(zone / "max_energy_range_uj") + 1)
                for zone in self._zones
            ]
        except (OSError, ValueError):  # closed to us, or gone
            return None
        return found or None


def _counts(zone: Path) -> bool:
    try:
        name = (zone / "name").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return False
    return name.startswith("package") or name == "dram"


def _number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))
