"""A neighbour that computes is noticed; we ourselves are not taken for one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from blip_edge.benchmarks.load_guard import BUSY, LoadGuard, busy_seconds, own_seconds

SPIN = "while True: pass"


@contextmanager
def running(program: str) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that computes; another one has started it, so that it is none of our children."""
    program = (
        "import subprocess, sys\n"
        f"command, nowhere = [sys.executable, '-c', {SPIN!r}], subprocess.DEVNULL\n"
        "spin = subprocess.Popen(command, stdout=nowhere, stderr=nowhere)\n"
        "print(spin.pid, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    try:
        yield
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def guard(busy: list[float], own: list[float], cores: int = 4) -> LoadGuard:
    """Asked twice, ten seconds apart."""
    clock = iter([0.0, 10.0])
    return LoadGuard(
        busy=lambda: (busy.pop(0), cores), own=lambda: own.pop(0), clock=lambda: next(clock)
    )


def test_what_is_not_ours_is_anothers() -> None:
    assert guard([100.0, 120.0], [5.0, 25.0]).others() == 0.0
    assert guard([100.0, 120.0], [5.0, 15.0]).others() == pytest.approx(10 / 40)
    assert guard([100.0, 140.0], [5.0, 5.0]).others() == 1.0


def test_rounding_of_the_systems_clocks_makes_nobody_negative() -> None:
    assert guard([100.0, 120.0], [5.0, 25.3]).others() == 0.0


def test_a_mute_system_is_not_taken_for_a_quiet_one() -> None:
    assert LoadGuard(busy=lambda: None, own=lambda: 0.0).others() is None


@pytest.mark.skipif(busy_seconds() is None, reason="this system does not tell")
def test_a_load_generator_beside_us_is_noticed() -> None:
    with neighbour():
        watch = LoadGuard()
        time.sleep(0.6)
        others = watch.others()
    assert others is not None
    assert others > BUSY


@pytest.mark.skipif(busy_seconds() is None, reason="this system does not tell")
def test_our_own_children_are_ours() -> None:
    before = own_seconds()
    with running(SPIN):
        end = time.monotonic() + 20
        while (alive := own_seconds()) - before <= 0.1 and time.monotonic() < end:
            time.sleep(0.05)
    ended = own_seconds()
    assert alive - before > 0.1
    assert ended >= alive - 0.05, "what an ended child has used is kept"
