"""Which devices bundles can be timed on from here, told without contacting one."""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from blip_edge.benchmarks.devices.web_runtime import cache_folder
from blip_edge.benchmarks.machine import installed

__all__ = ["Ready", "readiness"]

_APT = "on Debian and Ubuntu: apt-get install {}"


@dataclass(frozen=True, kw_only=True)
class Ready:
    """One kind of device."""

    name: str
    detail: str
    """What it can do, or what is missing."""
    missing: bool = False
    fix: str = ""
    """What to type, empty when there is nothing to do or nothing helps."""


def readiness() -> list[Ready]:
    """All kinds, in the order of `--device`'s help."""
    return [
        Ready(name="local", detail=f"{_free_cores()} logical cores"),
        _program("ssh", "ssh", "any host that `ssh HOST` reaches", _APT.format("openssh-client")),
        _browser(),
        _program("adb", "adb", "phones that `adb devices` lists", _APT.format("adb")),
        _coreml(),
    ]


def _free_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _program(name: str, program: str, detail: str, fix: str) -> Ready:
    if shutil.which(program) is None:
        return Ready(name=name, detail=f"needs {program}", missing=True, fix=fix)
    return Ready(name=name, detail=detail)


def _browser() -> Ready:
    if not cache_folder().is_dir() and shutil.which("npm") is None:
        return Ready(
            name="browser",
            detail="needs npm, or --web-runtime",
            missing=True,
            fix=_APT.format("npm"),
        )
    here = [Path(found).name for name in _BROWSERS if (found := shutil.which(name))]
    detail = f"any browser that opens the page; here browser:{here[0]}" if here else ""
    qr = "" if installed(("segno",)) else "; --lan shows no QR code without the qr extra"
    return Ready(name="browser", detail=(detail or "any browser that opens the page") + qr)


_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "msedge")


def _coreml() -> Ready:
    if sys.platform != "darwin":
        return Ready(name="coreml", detail="needs a Mac", missing=True)
    if not installed(("coremltools",)):
        return Ready(
            name="coreml",
            detail="needs coremltools",
            missing=True,
            fix="pip install 'blip-edge[coreml]'",
        )
    phones = "; with Xcode also iPhones and iPads" if shutil.which("xcodebuild") else ""
    return Ready(name="coreml", detail=f"coreml:local{phones}")
