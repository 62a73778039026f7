"""Joules from a tree of counters like the kernel's."""

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.benchmarks.energy import EnergyMeter, metered
from blip_edge.benchmarks.powermetrics import Powermetrics

RANGE = 262_143_328_850


class FakeZones:
    """A machine with two packages, memory beside one, cores inside it, and the whole as psys."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for zone, name in {
            "intel-rapl:0": "package-0",
            "intel-rapl:0:0": "core",
            "intel-rapl:0:1": "dram",
            "intel-rapl:1": "package-1",
            "intel-rapl:2": "psys",
        }.items():
            (root / zone).mkdir(parents=True)
            (root / zone / "name").write_text(f"{name}\n")
            (root / zone / "max_energy_range_uj").write_text(f"{RANGE}\n")
            self.set(zone, 1_000_000)
        (root / "intel-rapl").mkdir()  # the control type has no counter

    def set(self, zone: str, microjoules: int) -> None:
        (self.root / zone / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def zones(tmp_path: Path) -> FakeZones:
    return FakeZones(tmp_path / "powercap")


def test_packages_and_memory_are_added_and_nothing_twice(zones: FakeZones) -> None:
    meter = EnergyMeter(zones.root)
    for zone, microjoules in {
        "intel-rapl:0": 3_000_000,
        "intel-rapl:0:0": 2_500_000,
        "intel-rapl:0:1": 1_500_000,
        "intel-rapl:1": 1_250_000,
        "intel-rapl:2": 9_000_000,
    }.items():
        zones.set(zone, microjoules)
    assert meter.lap() == pytest.approx(2.0 + 0.5 + 0.25)
    assert meter.lap() == 0.0


@given(start=st.integers(0, RANGE), spent=st.integers(0, RANGE))
def test_a_counter_that_starts_again_is_followed(
    tmp_path_factory: pytest.TempPathFactory, start: int, spent: int
) -> None:
    zones = FakeZones(tmp_path_factory.mktemp("power") / "cap")
    zones.set("intel-rapl:0", start)
    meter = EnergyMeter(zones.root)
    zones.set("intel-rapl:0", (start + spent) % (RANGE + 1))
    assert meter.lap() == pytest.approx(spent / 1e6)


def test_where_nobody_tells_nothing_is_known(tmp_path: Path, zones: FakeZones) -> None:
    assert EnergyMeter(tmp_path / "nowhere").lap() is None
    zones.set("intel-rapl:0", 5)
    closed = zones.root / "intel-rapl:1" / "energy_uj"
    closed.unlink()
    closed.mkdir()  # what only root may read fails alike, for root too
    assert EnergyMeter(zones.root).lap() is None


def test_a_counter_that_goes_away_ends_the_lap_only(zones: FakeZones) -> None:
    meter = EnergyMeter(zones.root)
    (zones.root / "intel-rapl:1" / "energy_uj").write_text("")
    assert meter.lap() is None
    zones.set("intel-rapl:1", 1)
    assert meter.lap() is None
    assert meter.lap() == 0.0


def sample(milliseconds: float, milliwatts: float) -> str:
    """What `powermetrics --samplers cpu_power` prints of one."""
    return (
        "*** Sampled system activity (Mon Nov 23 10:00:00 2026 +0100) "
        f"({milliseconds:.2f}ms elapsed) ***\n\n**** Processor usage ****\n\n"
        "CPU Power: 12 mW\nGPU Power: 3 mW\nANE Power: 0 mW\n"
        f"Combined Power (CPU + GPU + ANE): {milliwatts:.0f} mW\n\n"
    )


def test_a_macs_samples_are_power_times_time() -> None:
    meter = Powermetrics((sample(50, 4000) + sample(100, 1000)).splitlines(keepends=True))
    meter.close()
    assert meter.lap() == pytest.approx(4.0 * 0.05 + 1.0 * 0.1)
    assert meter.lap() is None, "no sample since"


def test_the_program_is_asked_on_a_mac_by_root_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "powermetrics"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{sample(50, 2000)}END\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    assert Powermetrics.start() is None, "it answers root alone"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with metered() as meter:
        end = time.monotonic() + 10
        while (joules := meter.lap()) is None and time.monotonic() < end:
            time.sleep(0.01)
    assert joules == pytest.approx(2.0 * 0.05)
