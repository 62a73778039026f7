"""Files of predictions, in the field's own formats: see `evaluation.predictions`."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blip_edge.artifact import read_json, require_writable, write_text
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation.result import Evaluation

__all__ = ["check_results_file", "read_results", "write_results"]

_CSV = ("identifier", "label")
"""What NLVR2's own program reads: two columns without a head."""


def check_results_file(path: Path, task: str, *, force: bool = False) -> None:
    """Refuse a file that could not be written, before hours are spent on what goes into it.

    Raises:
        ArtifactError: as of `require_writable`.
        UsageError: its ending is neither .json nor, for NLVR2, .csv.
    """
    endings = (".json", ".csv") if task == "nlvr2" else (".json",)
    if path.suffix not in endings:
        raise UsageError(f"{path}: predictions of {task} are written as {' or '.join(endings)}")
    require_writable(path, force=force)


def write_results(found: Evaluation, path: Path, *, force: bool = False) -> None:
    """Write the predictions in one step: a reader sees the old file or the whole new one.

    Raises:
        ArtifactError: the file is there already and `force` is off, or cannot be written.
        UsageError: as for `check_results_file`.
    """
    path = Path(path)
    check_results_file(path, found.task, force=force)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(_lines(found.predictions, path.suffix)))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error.strerror or error}") from None


def _lines(rows: Sequence[dict[str, Any]], suffix: str) -> list[str]:
    """A row a line, so that files compare line by line."""
    if suffix == ".csv":
        return [",".join(str(row[name]) for name in _CSV) + "\n" for row in rows]
    texts = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return ["[\n", ",\n".join(texts), "\n]\n"]


def read_results(path: Path, key: str, value: str) -> list[Any]:
    """The rows of a file, each an object with `key` and `value` if it is what it should be.

    Raises:
        ArtifactError: the file is missing, or is not a list.
    """
    if path.suffix == ".csv" and (key, value) == _CSV:
        return _read_csv(path)
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ArtifactError(f'{path} is not a list of {{"{key}", "{value}"}}')
    return rows


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [dict(zip(_CSV, row, strict=False)) for row in csv.reader(file) if row]
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from None
