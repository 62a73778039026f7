"""What a teacher tells, kept in a folder: asked once, read by every epoch and every student.

    DIR/store.json                          what it is of
    DIR/shard-<process>-<number>-<sha256>.safetensors
    DIR/importance-<of what>-<sha256>.safetensors
    DIR/said.json                           the teacher's captions, if students learn them

A file's name holds the digest of its bytes, and it has its name only when it is whole. So a store
needs no index, what is missing is what is yet to be asked, and any number of runs may read one.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from blip_edge.artifact import read_json
from blip_edge.errors import ArtifactError

__all__ = ["Store"]

_FORMAT = 1
_OF, _SAID = "store.json", "said.json"
_NAME = re.compile(r"(.+)-([0-9a-f]{64})\.safetensors")
_ABSENT = object()


class Store:
    """A folder of named groups of tensors, all of one teacher, data set and recipe.

    Args:
        folder: made if it is not there.
        identity: what it is of, in words that JSON has; a store of anything else is refused.

    Raises:
        ArtifactError: it is of something else, no store at all, or cannot be written.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self._whole: set[Path] = set()
        mine = json.loads(json.dumps({"format": _FORMAT, **identity}))
        path = self.folder / _OF
        if not path.is_file():
            if not _is_empty(self.folder):
                raise ArtifactError(f"{self.folder} is no store of a teacher ({_OF} is missing)")
            self._write(_OF, _text(mine))
        self._require_same(mine, read_json(path))

    def has(self, name: str) -> bool:
        """Whether the group was kept."""
        return self._find(name) is not None

    def keep(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Keep a group of tensors, whole or not at all.

        Raises:
            ArtifactError: it cannot be written.
        """
        data = save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})
        self._write(f"{name}-{hashlib.sha256(data).hexdigest()}.safetensors", data)

    def read(self, name: str) -> dict[str, Tensor]:
        """A group that was kept.

        Raises:
            ArtifactError: it is not there, or other bytes than were written.
        """
        path = self._find(name)
        if path is None:
            raise ArtifactError(f"{self.folder}: {name} is missing")
        try:
            data = path.read_bytes()
            if path not in self._whole and hashlib.sha256(data).hexdigest() != _digest(path):
                raise ArtifactError(
                    f"{path} is damaged; delete it, and the teacher is asked about it again"
                )
            self._whole.add(path)
            return load(data)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}") from None

    def forget(self, prefix: str) -> None:
        """Delete drafts of groups so named that a killed run left."""
        for draft in self.folder.glob(f".{prefix}*.draft"):
            draft.unlink(missing_ok=True)

    @property
    def said(self) -> dict[str, str] | None:
        """The teacher's captions by picture, None if it has not been asked.

        Raises:
            ArtifactError: they are damaged.
        """
        path = self.folder / _SAID
        if not path.is_file():
            return None
        kept = read_json(path)
        captions = kept.get("captions") if isinstance(kept, dict) else None
        if not isinstance(captions, dict) or kept.get("sha256") != _sha256(captions):
            raise ArtifactError(f"{path} is damaged; delete it, and the teacher is asked again")
        return captions

    def keep_said(self, captions: dict[str, str]) -> None:
        """Keep the teacher's captions by picture.

        Raises:
            ArtifactError: they cannot be written.
        """
        self._write(_SAID, _text({"sha256": _sha256(captions), "captions": captions}))

    def _find(self, name: str) -> Path | None:
        found = (path for path in self.folder.glob(f"{name}-*.safetensors"))
        return next((path for path in sorted(found) if _stem(path) == name), None)

    def _require_same(self, mine: dict[str, Any], kept: Any) -> None:
        if not isinstance(kept, dict):
            raise ArtifactError(f"{self.folder / _OF} is not a store's")
        differ = [
            f"{key} was {_shown(kept, key)} and is {_shown(mine, key)}"
            for key in _keys(kept, mine)
            if kept.get(key, _ABSENT) != mine.get(key, _ABSENT)
        ]
        if differ:
            raise ArtifactError(
                f"{self.folder} holds what another teacher told, or of something else: "
                f"{', '.join(differ)}; give --store another folder"
            )

    def _write(self, name: str, data: bytes) -> None:
        # Two runs that begin at once write the same, and not into each other's drafts.
        draft = self.folder / f".{name}.{os.getpid()}.draft"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            os.replace(draft, self.folder / name)
        except OSError as error:
            if not (self.folder / name).is_file():
                raise ArtifactError(
                    f"{self.folder} cannot be written: {error.strerror or error}"
                ) from None


def _is_empty(folder: Path) -> bool:
    """Whether a store may begin there; another run's draft is nothing yet."""
    if not folder.exists():
        return True
    return folder.is_dir() and all(path.name.startswith(f".{_OF}") for path in folder.iterdir())


def _text(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _keys(*documents: dict[str, Any]) -> Iterable[str]:
    return dict.fromkeys(key for document in documents for key in document)


def _shown(values: dict[str, Any], key: str) -> str:
    return f"{values[key]!r:.60}" if key in values else "not there"


def _digest(path: Path) -> str:
    return path.stem.rpartition("-")[2]


def _stem(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    return "" if match is None else match[1]


def _sha256(captions: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(captions, sort_keys=True).encode()).hexdigest()
