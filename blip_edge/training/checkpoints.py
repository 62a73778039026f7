"""A run that was killed goes on: snapshots of it, written whole or not at all.

A checkpoint is one safetensors file. Its metadata hold, as JSON, all that is no tensor; its name
holds the step and the digest of its bytes, so that a damaged one is told from a whole one.
"""

import json
import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from blip_edge.artifact import sha256_file
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.progress import SILENT, Progress

__all__ = ["Checkpoints", "Snapshot"]

_FORMAT = 1
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{64})\.safetensors")
# A folder: safetensors writes beside what it writes, and a killed process leaves that there.
_DRAFT = ".draft"
_KEPT = 2
_ABSENT = object()


@dataclass(frozen=True)
class Snapshot:
    """All that a run needs to go on."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    """What JSON can hold."""


class Checkpoints:
    """The last two snapshots of one run.

    Args:
        folder: where they are.
        identity: what makes this run this one: recipe, seed, digests of what it reads. Only a run
            with the same goes on.
        every: steps from one to the next; 0 saves none.
        resume: go on from what is there; with nothing there, begin.
        added: what the identity was before it had a key, for snapshots older than that.
        free: keys of the identity with other values of which a run goes on, too.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        *,
        every: int,
        resume: bool = False,
        added: dict[str, Any] | None = None,
        free: frozenset[str] = frozenset(),
    ) -> None:
        if every < 0:
            raise UsageError(f"save_every must not be negative, got {every}")
        self.folder, self._every, self._resume, self._free = Path(folder), every, resume, free
        self._identity, self._added = _plain(identity), _plain(added or {})

    def begin(self, also: dict[str, Any], progress: Progress = SILENT) -> Snapshot | None:
        """The newest whole snapshot, or None for a run that begins.

        `also` belongs to the identity. A damaged snapshot is passed over, and that is said. What
        a run that was killed while saving had not yet forgotten goes.

        Raises:
            UsageError: it is of another run.
            ArtifactError: it is not to be resumed, or no snapshot is whole.
        """
        self._identity |= _plain(also)
        found = self._files()
        if not found:
            return None
        if not self._resume:
            raise ArtifactError(
                f"{self.folder} holds a run that stopped after step {_step(found[-1])}; continue "
                "it with --resume, or delete the folder"
            )
        damaged: list[Path] = []
        for path in reversed(found):
            try:
                snapshot = _read(path)
            except ArtifactError as error:
                progress.say(f"warning: {error}; the checkpoint before it is taken")
                damaged.append(path)
                continue
            self._require_same(snapshot.values["identity"])
            whole = [path for path in found if path not in damaged]
            self._forget_draft()
            _delete(damaged + whole[:-_KEPT])  # damaged ones must not count among the last two
            return snapshot
        raise ArtifactError(f"no checkpoint in {self.folder} is whole; delete it to begin again")

    def due(self, step: int) -> bool:
        """Whether a snapshot is to be saved after `step` steps."""
        return self._every > 0 and step % self._every == 0

    def save(self, step: int, snapshot: Snapshot) -> None:
        """Write what the run is after `step` steps, and forget all but the last two.

        Raises:
            ArtifactError: it cannot be written; those before it stay.
        """
        values = {"format": _FORMAT, "identity": self._identity, **snapshot.values}
        draft = self.folder / _DRAFT / "snapshot.safetensors"
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            text = json.dumps(values, allow_nan=False)
            tensors = {name: tensor.contiguous() for name, tensor in snapshot.tensors.items()}
            save_file(tensors, draft, metadata={"values": text})
            _flush(draft)
            draft.rename(self.folder / f"step-{step:09}-{sha256_file(draft)}.safetensors")
            _flush(self.folder)
        except (OSError, SafetensorError) as error:
            self._forget_draft()
            raise ArtifactError(
                f"{self.folder}: the checkpoint of step {step} cannot be written: {error}; make "
                "room and continue with --resume"
            ) from None
        self._forget_draft()
        _delete(self._files()[:-_KEPT])

    def clear(self) -> None:
        """Delete them all, and their folder if it holds nothing else."""
        self._forget_draft()
        _delete(self._files())
        with suppress(OSError):
            self.folder.rmdir()

    def _forget_draft(self) -> None:
        shutil.rmtree(self.folder / _DRAFT, ignore_errors=True)

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        found = (path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
        return sorted(path for path in found if path.is_file())

    def _require_same(self, theirs: dict[str, Any]) -> None:
        mine, theirs = self._identity, self._added | theirs
        differ = [
            f"{key} was {_shown(theirs, key)} and is {_shown(mine, key)}"
            for key in sorted((theirs.keys() | mine.keys()) - self._free)
            if theirs.get(key, _ABSENT) != mine.get(key, _ABSENT)
        ]
        if differ:
            raise UsageError(
                f"{self.folder} is of another run: {', '.join(differ)}; continue with the same, or "
                "delete the folder"
            )


def _read(path: Path) -> Snapshot:
    try:
        # The digest first: a file of other bytes is not even parsed.
        if sha256_file(path) != path.stem.rpartition("-")[2]:
            raise ArtifactError(f"{path} is damaged")
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["values"])
        if values.get("format") != _FORMAT:
            raise ArtifactError(f"{path} is of another version of blip-edge")
        return Snapshot(load_file(path), values)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None


def _delete(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the disk hold what was written, before anything relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _shown(values: dict[str, Any], key: str) -> str:
    return f"{values[key]!r:.60}" if key in values else "not there"
