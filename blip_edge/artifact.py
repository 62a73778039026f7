"""The folders that pass between the verbs: written whole or not at all, and traceable.

Every stage writes its output with `writing`, so that a verb killed at any instant leaves either
the old folder or none, and leaves a `provenance.json` that names its parents by digest.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, Literal

from blip_edge.errors import ArtifactError, ToleranceError, UsageError

__all__ = [
    "Kind",
    "Provenance",
    "begin_run",
    "folder_bytes",
    "inside",
    "kind",
    "read_json",
    "read_provenance",
    "require_free",
    "require_writable",
    "sha256_file",
    "sha256_folder",
    "write_bytes",
    "write_json",
    "write_provenance",
    "write_text",
    "writing",
]

Kind = Literal["model", "bundle", "data", "run", "index"]

# The file that makes a folder what it is.
_MARKS: dict[str, Kind] = {
    "manifest.json": "bundle",
    "model.safetensors": "model",
    "dataset.json": "data",
    "summary.json": "run",
    "index.json": "index",
}
_PROVENANCE = "provenance.json"
# What a verb leaves beside the mark: other people's programs have a manifest.json, too.
_BESIDE = {
    "manifest.json": _PROVENANCE,
    "model.safetensors": _PROVENANCE,
    "index.json": "vectors.npy",
    "dataset.json": "dataset.json",
}


@contextmanager
def writing(
    output: Path, *, force: bool = False, reads: Iterable[Path | str | None] = ()
) -> Iterator[Path]:
    """Yield a draft folder that becomes `output` only if the block ends well.

    What the block `reads` is never replaced.

    When the block raises a ToleranceError, `output` stays as it was and the draft becomes
    `OUT.rejected`, where it can be looked at; the error then says so.

    Raises:
        ArtifactError: `output` exists and `force` is off, or `output` cannot be written.
        UsageError: `output` is what is read, or what is read lies in it.
    """
    output = Path(output)
    require_free(output, force=force, reads=reads)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent)
    except OSError as error:
        raise ArtifactError(f"{output} cannot be written: {error.strerror or error}") from None
    with scratch as folder:
        draft = Path(folder) / output.name
        draft.mkdir()  # the scratch folder itself has mode 0700, which the output must not inherit
        try:
            yield draft
        except ToleranceError as missed:
            rejected = output.with_name(f"{output.name}.rejected")
            _put(draft, rejected, Path(folder) / "replaced")
            raise ToleranceError(f"{missed}; it is kept at {rejected}") from None
        _put(draft, output, Path(folder) / "replaced")


def require_free(
    output: Path, *, force: bool = False, reads: Iterable[Path | str | None] = ()
) -> None:
    """See that `writing` may put something there.

    Raises:
        ArtifactError: `output` exists and `force` is off, or it is not ours to replace.
        UsageError: `output` has no name, is what is read, or what is read lies in it.
    """
    if not output.name:
        raise UsageError(f"{output} cannot be replaced; give -o a folder's name")
    if output.exists() and not force:
        raise ArtifactError(f"{output} already exists; pass --force to replace it")
    if output.exists() and not _is_ours(output):
        raise ArtifactError(
            f"{output} was not written by blip-edge; it is not replaced, even with --force"
        )
    place = output.resolve()
    for read in reads:
        if output.exists() and read is not None and Path(read).resolve().is_relative_to(place):
            raise UsageError(f"{output} would replace {read}, which is read; choose another output")


def require_writable(file: Path, *, force: bool = False) -> None:
    """Refuse a file that could not be written, before hours are spent on what goes into it.

    Raises:
        ArtifactError: it is there and `force` is off, it is a folder, or the folder that it is to
            lie in cannot be written.
    """
    file = Path(file)
    if file.is_dir():
        raise ArtifactError(f"{file} is a folder; give the name of a file")
    if file.exists() and not force:
        raise ArtifactError(f"{file} already exists; pass --force to replace it")
    folder = next(one for one in file.absolute().parents if one.exists())
    try:
        # Tried, not asked for: root may write everywhere, and yet not in /proc.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ArtifactError(f"{file} cannot be written: {error.strerror or error}") from None


def begin_run(folder: Path, identity: dict[str, Any], *, resume: bool) -> None:
    """Make the folder of a long run's steps, or see that what is in it belongs to this run.

    Args:
        folder: where the steps are kept until all are done.
        identity: what makes a run this one, as JSON.
        resume: go on with what is there.

    Raises:
        ArtifactError: it is there, and is not to be gone on with or is another run's.
    """
    note = folder / "run.json"
    if not folder.exists():
        folder.mkdir(parents=True)
        write_json(note, identity)
        return
    if not resume:
        raise ArtifactError(
            f"{folder} holds a run that stopped; continue it with --resume, or delete the folder"
        )
    if read_json(note) != json.loads(json.dumps(identity)):
        raise ArtifactError(
            f"{folder} is of other data, models or settings; delete it to begin again"
        )


def _put(draft: Path, output: Path, replaced: Path) -> None:
    """Rename `draft` to `output`; what was there goes to `replaced`, and comes back on failure."""
    if output.exists():
        output.rename(replaced)
    try:
        draft.rename(output)
    except OSError as error:
        if replaced.exists():
            replaced.rename(output)
        raise ArtifactError(f"{output} cannot be written: {error.strerror or error}") from None


def _is_ours(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    return not any(folder.iterdir()) or any(
        (folder / mark).is_file() and (folder / beside).is_file()
        for mark, beside in _BESIDE.items()
    )


def kind(folder: Path) -> Kind:
    """What a folder is, told by the file that only this kind has.

    Raises:
        ArtifactError: there is no such folder, or it is none of ours.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder; give the folder that a verb wrote with -o")
    for mark, name in _MARKS.items():
        if (folder / mark).is_file():
            return name
    raise ArtifactError(
        f"{folder} is no model, bundle, data set, run or index: it holds none of "
        f"{', '.join(_MARKS)}"
    )


def inside(folder: Path, relative: str) -> Path:
    """`folder / relative`, refused when it leads out of `folder`.

    Raises:
        ArtifactError: `relative` is absolute or climbs out.
    """
    path = Path(folder) / relative
    # Text first, then the file system: a link inside the folder may not lead out of it either.
    climbs = Path(relative).is_absolute() or ".." in Path(relative).parts
    try:
        stays = not climbs and path.resolve().is_relative_to(Path(folder).resolve())
    except (ValueError, RuntimeError, OSError) as error:  # a null byte, links in a circle
        raise ArtifactError(f"{folder}: {relative!r} is not a path: {error}") from None
    if not stays:
        raise ArtifactError(
            f"{folder}: the path {relative!r} leaves the folder; it is not followed"
        )
    return path


def read_json(path: Path) -> Any:
    """The JSON document in `path`.

    Raises:
        ArtifactError: the file is missing, unreadable, or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is not valid JSON: {error}") from None
    except RecursionError:
        raise ArtifactError(f"{path} is not valid JSON: it is nested too deeply") from None
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from None


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` in one step: a reader sees the old document or the new one."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in one step, in UTF-8, as `write_bytes` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step; if that fails, nothing is left but what was there."""
    path = Path(path)
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_bytes(data)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> str:
    """One digest over the names and contents of all files below `folder`, hidden ones left out."""
    folder = Path(folder)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not any(part.startswith(".") for part in name.split("/")):
            digest.update(f"{name}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a folder comes from."""

    verb: str
    recipe: dict[str, Any]
    parents: list[dict[str, str]] = field(default_factory=list)
    """`{"path", "sha256"}` of every folder that was read, data sets apart."""
    data: dict[str, Any] | None = None
    """`{"name", "sha256", "items"}` of the data set, if one was read."""
    version: str
    """Version of blip-edge that wrote the folder."""
    seconds: float
    history: list[dict[str, float]] = field(default_factory=list)
    """What was logged on the way, such as `{"step", "loss"}`."""


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write `provenance.json`."""
    write_json(Path(folder) / _PROVENANCE, asdict(provenance))


def read_provenance(folder: Path) -> Provenance:
    """Read `provenance.json`.

    Raises:
        ArtifactError: it is missing or has other fields.
    """
    path = Path(folder) / _PROVENANCE
    try:
        return Provenance(**read_json(path))
    except TypeError:
        raise ArtifactError(f"{path} does not have a provenance's fields") from None
