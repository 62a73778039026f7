"""Official annotation files as they were downloaded: what is in them, and which split they are."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from blip_edge.data.draft import Entry
from blip_edge.data.rows import Fields
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.text import clean_caption

__all__ = ["entries", "files", "has", "load", "pairs", "placed", "split_of", "spoken", "unknown"]


def files(sources: Iterable[Path | str], names: tuple[str, ...]) -> list[Path]:
    """The files that are given; of a folder those in it that are named like the official ones.

    Raises:
        ArtifactError: one is missing, or a folder holds none of those names.
    """
    found: list[Path] = []
    for source in map(Path, sources):
        if source.is_file():
            found.append(source)
        elif source.is_dir():
            below = {path for name in names for path in source.glob(name) if path.is_file()}
            if not below:
                raise ArtifactError(f"{source} holds no {' or '.join(names)}")
            found += sorted(below)
        else:
            raise ArtifactError(f"{source} is missing; give the files that were downloaded")
    if not found:
        raise UsageError("no annotation files were given")
    return found


def load(path: Path) -> Any:
    """The JSON in `path`, or the list of its lines when each line is a document.

    NLVR2's official files end in .json and hold a document a line.

    Raises:
        ArtifactError: it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read as text: {error}") from None
    if path.suffix == ".jsonl":
        return list(_lines(path, text))
    try:
        return json.loads(text)
    except RecursionError:
        raise ArtifactError(f"{path} is not valid JSON: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise ArtifactError(f"{path} is not valid JSON: {error}") from None
    return list(_lines(path, text))


def _lines(path: Path, text: str) -> Iterator[Any]:
    # Not splitlines: it also splits at characters that JSON may hold as they are.
    for number, line in enumerate(text.split("\n")):
        if line.strip():
            try:
                yield json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise ArtifactError(f"{path}: row {number} is not valid JSON: {error}") from None


def has(value: Any, *keys: str) -> bool:
    """Whether `value` is an object with all of `keys`."""
    return isinstance(value, dict) and all(key in value for key in keys)


def split_of(path: Path) -> str:
    """The split that a file's name says: train, val, dev or test.

    Raises:
        ArtifactError: it says none.
    """
    match = re.search(r"(?<![a-z])(train|val|dev|test)", path.stem.lower())
    if match is None:
        raise ArtifactError(
            f"{path}: its name does not say which split it is (train, val, dev or test)"
        )
    return match.group(1)


def unknown(path: Path, formats: str) -> ArtifactError:
    """The error to raise for a file that is in none of the official formats."""
    return ArtifactError(f"{path} is none of: {formats}")


def entries(
    values: Iterable[tuple[int, Any]], read: Callable[[Fields], Entry], where: str
) -> Iterator[Entry]:
    """What `read` makes of each numbered value, or what is wrong with it."""
    for number, value in values:
        row = f"{where}: row {number}"
        try:
            yield read(Fields(value, row))
        except ArtifactError as error:
            yield (placed(error, row),)


def placed(error: ArtifactError, row: str) -> ArtifactError:
    """`error`, naming the row that it is about: of a picture that is missing for example."""
    return error if str(error).startswith(row) else ArtifactError(f"{row}: {error}")


def spoken(fields: Fields, key: str, text: str) -> str:
    """`text`, which is the field `key`.

    Raises:
        ArtifactError: nothing of it is left after BLIP's cleaning.
    """
    if not clean_caption(text):
        raise fields.wrong(key, f"is empty after cleaning: {text!r:.40}")
    return text


def pairs(path: Path) -> dict[str, str]:
    """A file of two columns, tab between them or else a space, or a JSON object, as a mapping.

    Raises:
        ArtifactError: it is neither.
    """
    if path.suffix == ".json":
        value = load(path)
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise ArtifactError(f"{path} is not an object of texts")
        return value
    found = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file):
                columns = line.rstrip("\r\n").split("\t" if "\t" in line else None, 1)
                if len(columns) == 2:
                    found[columns[0]] = columns[1].strip()
                elif columns and columns[0]:
                    raise ArtifactError(f"{path}: row {number} has not two columns")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read as text: {error}") from None
    return found
