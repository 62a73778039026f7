"""`verify`: whether a bundle still computes, here, what it did when it was exported.

Needs no torch unless a model is given to compare with, so that it runs on the device itself.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np

from blip_edge.artifact import kind
from blip_edge.errors import ArtifactError, ToleranceError, import_extra
from blip_edge.exporters.golden import Golden, read_golden
from blip_edge.exporters.parity import Gate, compare
from blip_edge.exporters.probes import PROBES
from blip_edge.exporters.recipe import Precision
from blip_edge.exporters.running import open_graph
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import Task
from blip_edge.runtime.load import load_bundle
from blip_edge.runtime.loaded import Picture
from blip_edge.runtime.manifest import Manifest, read_manifest
from blip_edge.runtime.sums import check_sums

__all__ = ["Check", "Verification", "verify"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    passed: bool
    detail: str
    """What was found, with its number."""


@dataclass(frozen=True)
class Verification:
    """All checks of a bundle."""

    bundle: Path
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """`{"bundle", "passed", "checks": [{"name", "passed", "detail"}]}`."""
        checks = [asdict(check) for check in self.checks]
        return {"bundle": str(self.bundle), "passed": self.passed, "checks": checks}


def verify(
    bundle: Path, against: Path | None = None, *, progress: Progress = SILENT
) -> Verification:
    """Check a bundle's files, its golden pictures and its 8-bit layers on this machine.

    Args:
        bundle: a BUNDLE folder.
        against: a MODEL folder; what it says, its logits and its vectors are compared with
            torch's too.
        progress: who wants to know.

    Raises:
        ArtifactError: a file is missing or was changed after the export.
        MissingExtraError: the target's runtime is not installed, or torch for `against`.
        ToleranceError: a check failed; every failed one is named.
    """
    bundle = Path(bundle)
    if (what := kind(bundle)) != "bundle":
        raise ArtifactError(f"{bundle} is a {what} folder; verify takes a bundle")
    # First, so that nothing is believed of a manifest that was changed.
    checks = [Check("checksums", True, f"{check_sums(bundle)} files unchanged")]
    for check in progress.track(_checks(read_manifest(bundle), against), "verify"):
        progress.note(check.name)
        checks.append(check)
    failed = [check for check in checks if not check.passed]
    if failed:
        reasons = "; ".join(f"{check.name}: {check.detail}" for check in failed)
        raise ToleranceError(f"{bundle}: {len(failed)} of {len(checks)} checks failed: {reasons}")
    return Verification(bundle, tuple(checks))


def _checks(manifest: Manifest, against: Path | None) -> Iterator[Check]:
    model = load_bundle(manifest)
    gate = Gate.from_json(_field(manifest, "gate"))
    golden = read_golden(manifest.folder)
    for entry in golden:
        yield from _pixels(model, entry)
    for task in manifest.tasks:
        of_task = [entry for entry in golden if entry.task == task]
        yield _words(model, task, of_task, exact=gate.max_abs_diff is not None)
        for entry in of_task:
            yield from _arrays(model, entry, gate)
    for name in manifest.graphs:
        yield _coverage(manifest, name)
    if against is not None:
        yield from _against(manifest, model, golden, Path(against), gate)


def _field(manifest: Manifest, name: str) -> Any:
    try:
        return manifest.document[name]
    except KeyError:
        raise ArtifactError(
            f"{manifest.folder / 'manifest.json'}: the field {name!r} is missing; export again"
        ) from None


def _pixels(model: EdgeModel, entry: Golden) -> Iterator[Check]:
    for image, expected in zip(entry.asked.images, entry.pixels, strict=True):
        found = model.preprocess.to_uint8(image)
        name = f"pixels {_name(image)}"
        if found.shape != expected.shape:
            yield Check(name, False, f"shape {found.shape} instead of {expected.shape}")
            continue
        steps = int(np.abs(found.astype(int) - expected.astype(int)).max())
        yield Check(name, steps == 0, f"largest difference {steps} of 255")


def _words(model: EdgeModel, task: Task, golden: list[Golden], *, exact: bool) -> Check:
    """Equal at fp32. Below it one near tie changes a whole caption, and the numbers decide."""
    says = PROBES[task].says
    same = sum(says(model, entry.asked, None) == entry.said for entry in golden)
    passed = same == len(golden) or not exact
    return Check(f"words of {task}", passed, f"{same} of {len(golden)} as torch has them")


def _arrays(model: EdgeModel, entry: Golden, gate: Gate) -> Iterator[Check]:
    found = PROBES[entry.task].arrays(model, entry.asked, entry.said)
    for key, expected in entry.arrays.items():
        difference = compare(expected, found[key])
        name = f"{key} {_name(entry.asked.images[0])}"
        yield Check(name, gate.passes(difference), gate.explain(difference))


def _name(image: Picture) -> str:
    assert isinstance(image, Path)
    return image.name


def _coverage(manifest: Manifest, name: str) -> Check:
    row = manifest.document["graphs"][name]
    counted = open_graph(manifest, name).operators()
    inputs = f", {counted.int8_inputs} with their inputs" if counted.int8_inputs else ""
    detail = (
        f"{counted.int8} of {row.get('int8_layers', 0)} layers in 8 bits or fewer{inputs}, "
        f"{counted.float} products in float"
    )
    return Check(f"int8 coverage of {name}", not counted.missing(row), detail)


def _against(
    manifest: Manifest, bundle: EdgeModel, golden: list[Golden], model: Path, gate: Gate
) -> Iterator[Check]:
    import_extra("torch", "train")
    if manifest.precision not in get_args(Precision):
        raise ArtifactError(f"{manifest.folder}: unknown precision {manifest.precision!r}")
    # By name: verifying without a model must not import torch.
    comparison = import_module("blip_edge.exporters.measure")
    stage = import_module("blip_edge.exporters.stage")
    form = str(manifest.document.get("form", "decided"))
    reference = stage.reference_model(model, manifest.target, manifest.precision, form)
    theirs = import_module("blip_edge.training.engine").edge_model(reference)
    for task in manifest.tasks:
        asked = [entry.asked for entry in golden if entry.task == task]
        same, compared = comparison.said_alike(bundle, theirs, task, asked)
        passed = same == compared or gate.max_abs_diff is None
        yield Check(f"words of {task} against the model", passed, f"{same} of {compared} alike")
        arrays = comparison.array_differences(bundle, theirs, task, asked)
        for key, difference in arrays.items():
            name = f"{key} of {task} against the model"
            yield Check(name, gate.passes(difference), gate.explain(difference))
    if "decoder" in manifest.graphs:
        tokens = reference.config.text_config.max_position_embeddings
        difference = comparison.forced_difference(bundle, theirs, golden[0].asked, tokens=tokens)
        yield Check("logits against the model", gate.passes(difference), gate.explain(difference))
