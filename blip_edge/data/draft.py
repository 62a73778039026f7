"""A data set while it is being written: rows go to their files as they come, one a line.

What cannot be used is left out, counted, and listed in `skipped.jsonl`; when it is more than a
share of a file's entries, writing stops.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from blip_edge.artifact import write_json
from blip_edge.errors import ArtifactError
from blip_edge.progress import SILENT, Progress

__all__ = ["Draft", "Entry", "Row", "Unavailable"]

Row = dict[str, Any]
Entry = Sequence[Row | ArtifactError]
"""What one entry of a source becomes: no row, one or several, and what is wrong with it."""

_LISTED = "skipped.jsonl"


class Unavailable(ArtifactError):
    """Something that is often not to be had, such as a picture whose address has died.

    It is left out and listed like anything else, but not held against the data set.
    """


class Draft:
    """The folder of a data set that is not finished."""

    def __init__(self, folder: Path, *, max_bad: float = 0.01, progress: Progress = SILENT) -> None:
        self.folder = folder
        self.progress = progress
        self.counts: dict[str, int] = {}
        """Rows of each file, by its name without the ending."""
        self.skipped = 0
        self._max_bad = max_bad

    def rows(self, file: str, entries: Iterable[Entry], *, total: int | None = None) -> None:
        """Write `file` of all rows in `entries`: a JSON list, or of a .jsonl a document a line.

        Raises:
            ArtifactError: too many entries are bad, no row is left, or `file` was written before.
        """
        self._open(file)
        written, seen, errors = 0, 0, list[ArtifactError]()
        lines = file.endswith(".jsonl")
        with (self.folder / file).open("w", encoding="utf-8") as out:
            out.write("" if lines else "[")
            for entry in self.progress.track(entries, f"writing {file}", total=total):
                seen += bool(entry)
                for row in entry:
                    if isinstance(row, ArtifactError):
                        errors.append(row)
                        continue
                    before = "" if lines else "\n" if written == 0 else ",\n"
                    out.write(f"{before}{_json(row)}" + "\n" * lines)
                    written += 1
            out.write("" if lines else "\n]\n")
        self.judge(file, errors, seen)
        self._count(file, written)

    def document(self, file: str, value: Any, *, items: int) -> None:
        """Write `file` of one JSON value, which holds `items`.

        Raises:
            ArtifactError: it holds none, or `file` was written before.
        """
        self._open(file)
        (self.folder / file).write_text(f"{_json(value)}\n", encoding="utf-8")
        self._count(file, items)

    def judge(self, file: str, errors: Sequence[ArtifactError], total: int) -> None:
        """List `errors`, found among the `total` entries of what becomes `file`.

        Raises:
            ArtifactError: they are more than the share that may be bad.
        """
        if not errors:
            return
        self.skipped += len(errors)
        with (self.folder / _LISTED).open("a", encoding="utf-8") as out:
            for error in errors:
                out.write(f"{_json({'file': file, 'reason': str(error)})}\n")
        held = [error for error in errors if not isinstance(error, Unavailable)]
        if len(held) > self._max_bad * total:
            raise ArtifactError(
                f"{file}: {len(held)} of {total} entries cannot be used, more than "
                f"{self._max_bad:.1%} (--max-bad); the first: {held[0]}"
            )

    def finish(self, **header: Any) -> None:
        """Write `dataset.json`, and say how many entries were left out."""
        write_json(self.folder / "dataset.json", {**header, "counts": self.counts})
        if self.skipped:
            self.progress.say(f"warning: {self.skipped} entries were left out; see {_LISTED}")

    def _open(self, file: str) -> None:
        if Path(file).stem in self.counts:
            raise ArtifactError(f"two sources make {file}; give one of them")

    def _count(self, file: str, rows: int) -> None:
        if rows == 0:
            raise ArtifactError(f"nothing is left for {file}: its sources hold no usable entry")
        self.counts[Path(file).stem] = rows


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
