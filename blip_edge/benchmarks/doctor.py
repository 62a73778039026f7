"""What this machine can do, and what to install for the rest.

The list of packages is the distribution's own (its metadata, or pyproject.toml in a checkout that
is not installed), so that this page cannot disagree with what pip installs. Nothing is imported.
"""

import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal

from blip_edge.benchmarks.declared import declared, package_name
from blip_edge.benchmarks.devices.ready import readiness
from blip_edge.benchmarks.machine import Machine, installed, machine

__all__ = ["Check", "Doctor", "doctor"]

_NAME = "blip-edge"
# target -> (packages that run it, packages that export it, the extra that brings the latter)
_TARGETS = {
    "onnx": (("onnxruntime",), ("torch", "onnx", "onnxscript"), "onnx"),
    "openvino": (("openvino",), ("torch", "onnx", "onnxscript", "openvino"), "openvino"),
    "coreml": (("coremltools",), ("torch", "coremltools"), "coreml"),
    "executorch": (("torch", "executorch"), ("torch", "executorch"), "executorch"),
    "huggingface": (("transformers",), ("torch", "transformers"), "train"),
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the examination."""

    group: Literal["package", "run", "export", "device"]
    """A package, running bundles of a target here, exporting to it, or timing on a device."""
    name: str
    ok: bool
    required: bool
    """Whether blip-edge is broken without it; all else is a choice."""
    detail: str
    """The version found, or what is missing."""
    fix: str
    """What to type, empty when there is nothing to do."""


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """The whole examination."""

    machine: Machine
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Nothing that is required is missing."""
        return all(check.ok for check in self.checks if check.required)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "ok": self.ok,
            "machine": self.machine.to_json(),
            "checks": [asdict(check) for check in self.checks],
        }


def doctor(*, measure: bool = True) -> Doctor:
    """Examine this machine; `measure` also measures its peaks, in less than two seconds."""
    packages = [_package(name, extras) for name, extras in sorted(_requirements().items())]
    targets = [check for target in _TARGETS for check in _target(target)]
    packages.sort(key=lambda check: not check.required)
    return Doctor(machine=machine(measure=measure), checks=(*packages, *targets, *_devices()))


def _devices() -> list[Check]:
    return [
        Check(
            group="device",
            name=found.name,
            ok=not found.missing,
            required=False,
            detail=found.detail,
            fix=found.fix,
        )
        for found in readiness()
    ]


def _package(name: str, extras: list[str]) -> Check:
    version = installed((name,)).get(name)
    needed = not extras
    if version is not None:
        detail = version
    else:
        detail = "missing" if needed else f"missing (extra {', '.join(extras)})"
    fix = "" if version is not None else _pip("" if needed else extras[0])
    return Check(
        group="package", name=name, ok=version is not None, required=needed, detail=detail, fix=fix
    )


def _target(target: str) -> tuple[Check, Check]:
    to_run, to_export, extra = _TARGETS[target]
    run = _ability("run", target, to_run, "" if target == "onnx" else extra)
    if target == "coreml" and run.ok and sys.platform != "darwin":
        # The numbers of a Core ML graph can be checked anywhere; its speed is Apple's alone.
        run = Check(
            group="run",
            name=target,
            ok=False,
            required=False,
            detail="simulated here, for checking and not for timing; runs on macOS and iOS",
            fix="",
        )
    return run, _ability("export", target, to_export, extra)


def _ability(
    group: Literal["run", "export"], target: str, packages: tuple[str, ...], extra: str
) -> Check:
    missing = [name for name in packages if name not in installed(packages)]
    return Check(
        group=group,
        name=target,
        ok=not missing,
        required=False,
        detail=f"needs {', '.join(missing)}" if missing else "ready",
        fix=_pip(extra) if missing else "",
    )


def _pip(extra: str) -> str:
    return f"pip install '{_NAME}[{extra}]'" if extra else f"pip install {_NAME}"


def _requirements() -> dict[str, list[str]]:
    """Package -> the extra that brings it; an empty list means that it always comes along."""
    brought: dict[str, list[str]] = {}
    always: set[str] = set()
    for requirement, extra in declared():
        name = package_name(requirement)
        # `all` and `dev` gather or serve the project itself: neither is what a user lacks.
        if name == _NAME or extra in ("all", "dev"):
            continue
        extras = brought.setdefault(name, [])
        if extra is None:
            always.add(name)
        elif extra not in extras:
            extras.append(extra)
    return {name: [] if name in always else extras for name, extras in brought.items()}
