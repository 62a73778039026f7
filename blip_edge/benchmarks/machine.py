"""The facts of the machine that a number was measured on.

A latency without its machine is a rumour: every record carries these facts, and `doctor` prints
them. Packages are looked up in their metadata and never imported, so asking is quick. The two
peaks are measured, because a data sheet does not know what share of a shared machine is ours.
"""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil

from blip_edge.benchmarks.cpu import Cpu, parse_cpuinfo, parse_sysctl

__all__ = [
    "Machine",
    "Peaks",
    "best_seconds",
    "cores",
    "gemm_gflops",
    "installed",
    "machine",
    "peaks",
]

# What can change a number: the engines, what they compute with, and what decodes the pictures.
_PACKAGES = (
    "blip-edge",
    "coremltools",
    "executorch",
    "neural-compressor",
    "nncf",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "pillow",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
_SIDE = 1024  # of the square matrices: large enough for full speed, about 2 GFLOP a product
_COPY_BYTES = 128 << 20  # several times the last-level cache of the machines we know
_SMALL_MEMORY = 2 << 30


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """The best this machine did in a short try, with the threads that numpy uses by default."""

    gemm_gflops: float
    """float32 matrix product, 10^9 operations a second."""
    copy_gb_per_s: float
    """Memory copy, bytes read plus bytes written, 10^9 a second."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine is. Unknown facts are None or empty."""

    cpu: str
    arch: str
    isa: tuple[str, ...]
    """Instruction sets that matter here, such as avx2, avx512_vnni, amx_int8, neon, dotprod."""
    cores: int
    """Physical cores that this process may use."""
    memory_bytes: int
    os: str
    python: str
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the installed packages that can change a number."""
    load_average: float | None = None
    """Processes that wanted to run, averaged over the last minute."""
    governor: str | None = None
    temperature_c: float | None = None
    peaks: Peaks | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"isa": list(self.isa)}


def machine(*, measure: bool = False) -> Machine:
    """The facts of this machine; with `measure` also its peaks, in less than two seconds."""
    cpu = _cpu()
    return Machine(
        cpu=cpu.name,
        arch=platform.machine(),
        isa=cpu.isa,
        cores=cores(),
        memory_bytes=psutil.virtual_memory().total,
        os=_os_name(),
        python=platform.python_version(),
        packages=installed(_PACKAGES),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        governor=_first_line(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        temperature_c=_temperature(),
        peaks=peaks() if measure else None,
    )


def peaks(seconds: float = 0.5) -> Peaks:
    """Measure both peaks, `seconds` each (never less than three tries).

    The best try counts: everything that disturbs makes a try slower, nothing makes it faster.
    """
    small = psutil.virtual_memory().total < _SMALL_MEMORY
    size = _COPY_BYTES // 4 if small else _COPY_BYTES
    source = np.ones(size, dtype=np.uint8)
    target = np.ones_like(source)  # touched once, so that no page is faulted in while timing
    copy = best_seconds(lambda: np.copyto(target, source), seconds)
    return Peaks(gemm_gflops=gemm_gflops(seconds), copy_gb_per_s=round(2 * size / copy / 1e9, 1))


def gemm_gflops(seconds: float = 0.5) -> float:
    """The best float32 matrix product in `seconds`, 10^9 operations a second."""
    random = np.random.default_rng(0)
    left = random.standard_normal((_SIDE, _SIDE), dtype=np.float32)
    right, out = left.T.copy(), np.empty_like(left)
    product = best_seconds(lambda: np.matmul(left, right, out=out), seconds)
    return round(2 * _SIDE**3 / product / 1e9, 1)


def installed(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those of `names` that are installed, read from metadata alone."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Physical cores that this process may use: in a container often fewer than the machine's.

    Two threads on one core share its multipliers, so that counting both gains nothing.
    """
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    physical = psutil.cpu_count(logical=False)
    return max(1, min(free or 1, physical or free or 1))


def best_seconds(work: Callable[[], Any], seconds: float) -> float:
    """The shortest time of `work` in `seconds` of tries, at least three after one that warms up."""
    work()
    best, started, tries = float("inf"), perf_counter(), 0
    while tries < 3 or perf_counter() - started < seconds:
        before = perf_counter()
        work()
        best = min(best, perf_counter() - before)
        tries += 1
    return best


def _cpu() -> Cpu:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        known = parse_cpuinfo(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    elif sys.platform == "darwin":
        known = parse_sysctl(_sysctl())
    else:
        known = Cpu(name="", isa=())
    return known if known.name else Cpu(name=platform.processor() or "unknown", isa=known.isa)


def _sysctl() -> str:
    try:
        done = subprocess.run(["sysctl", "-a"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout


def _os_name() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        name = ""
    return f"{name} ({platform.system()} {platform.release()})".strip()


def _temperature() -> float | None:
    """The hottest zone that the kernel tells of, in degrees Celsius."""
    zones = [_first_line(path) for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    degrees = [int(zone) / 1000 for zone in zones if zone and zone.lstrip("-").isdigit()]
    return max(degrees, default=None)


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip().splitlines()[0]
    except (OSError, IndexError):
        return None
