"""What is there, what is missing, and what to type."""

import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from blip_edge.benchmarks.doctor import Check, Doctor, doctor

# The module gives the function under its own name.
ROOM = sys.modules["blip_edge.benchmarks.declared"]

PYPROJECT = """
[project]
name = "blip-edge"
dependencies = ["numpy>=2.0", "no-such-base-package; python_version > '3'"]

[project.optional-dependencies]
openvino = ["blip-edge[train]", "no_such.engine>=1"]
all = ["blip-edge[openvino]"]
dev = ["no-such-linter"]
"""


@pytest.fixture
def declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replace what the project says that it needs."""

    def declared(text: str) -> None:
        path = tmp_path / "pyproject.toml"
        path.write_text(text)
        monkeypatch.setattr(ROOM, "_PYPROJECT", path)

    return declared


def found(result: Doctor, group: str, name: str) -> Check:
    return next(check for check in result.checks if (check.group, check.name) == (group, name))


def test_a_missing_package_names_its_extra(declared: Callable[[str], None]) -> None:
    declared(PYPROJECT)
    result = doctor(measure=False)
    assert found(result, "package", "numpy").ok
    missing = found(result, "package", "no-such-engine")
    assert (missing.ok, missing.required) == (False, False)
    assert missing.fix == "pip install 'blip-edge[openvino]'"
    assert {check.name for check in result.checks if check.group == "package"} == {
        "numpy",
        "no-such-base-package",
        "no-such-engine",
    }


def test_only_required_packages_make_it_ill(declared: Callable[[str], None]) -> None:
    declared(PYPROJECT)
    assert not doctor(measure=False).ok
    declared(PYPROJECT.replace(", \"no-such-base-package; python_version > '3'\"", ""))
    assert doctor(measure=False).ok


def test_the_installed_distribution_is_asked_without_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ROOM, "_PYPROJECT", tmp_path / "none")
    monkeypatch.setattr(
        metadata,
        "requires",
        lambda name: ["numpy>=2", "no-such-engine>=1 ; extra == 'openvino'"],
    )
    result = doctor(measure=False)
    assert found(result, "package", "numpy").required
    assert found(result, "package", "no-such-engine").fix == "pip install 'blip-edge[openvino]'"


def test_every_target_can_be_run_or_says_why_not() -> None:
    result = doctor(measure=False)
    for target in ("onnx", "openvino", "coreml", "huggingface"):
        for group in ("run", "export"):
            check = found(result, group, target)
            assert check.ok == (check.detail == "ready")
    assert json.loads(json.dumps(result.to_json()))["ok"] == result.ok


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_core_ml_is_only_simulated_elsewhere() -> None:
    pytest.importorskip("coremltools")
    check = found(doctor(measure=False), "run", "coreml")
    assert not check.ok
    assert "simulated" in check.detail


def test_without_coremltools_nothing_is_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    room = sys.modules["blip_edge.benchmarks.doctor"]
    there = room.installed
    monkeypatch.setattr(room, "installed", lambda names: there(set(names) - {"coremltools"}))
    check = found(doctor(measure=False), "run", "coreml")
    assert (check.ok, check.detail) == (False, "needs coremltools")
    assert check.fix == "pip install 'blip-edge[coreml]'"


def test_every_device_can_be_used_or_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def devices() -> dict[str, Check]:
        return {c.name: c for c in doctor(measure=False).checks if c.group == "device"}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    poor = devices()
    assert list(poor) == ["local", "ssh", "browser", "adb", "coreml"]
    assert poor["local"].ok
    assert not any(poor[name].ok or poor[name].required for name in ("ssh", "browser", "adb"))
    assert all("apt-get install" in poor[name].fix for name in ("ssh", "browser", "adb"))
    for name in ("ssh", "adb", "npm", "chromium"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    rich = devices()
    assert all(rich[name].ok for name in ("local", "ssh", "browser", "adb"))
    assert "browser:chromium" in rich["browser"].detail


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML runs here")
def test_core_ml_devices_take_a_mac() -> None:
    check = found(doctor(measure=False), "device", "coreml")
    assert (check.ok, check.detail, check.fix) == (False, "needs a Mac", "")
