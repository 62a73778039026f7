"""Everything that is printed: results on stdout, talk on stderr.

A verb wraps its work in `with Output(json=…, quiet=…) as out`. Inside, whatever another package
prints on stdout goes to stderr, so that stdout stays the result alone: text that pipes well, or
with --json exactly one document.
"""

import dataclasses
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stdout,
)
from pathlib import Path
from textwrap import indent
from typing import Any, Self

from blip_edge.errors import ArtifactError
from blip_edge.progress import SILENT, Progress

__all__ = ["Output", "complain", "plain", "table"]

# As a shell tells of a program that the closed pipe has ended.
_UNREAD = 141


class Output:
    """What one run of a verb prints.

    With `json` or `quiet` the talk is off, and with it the progress.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        self._talks = not (json or quiet)
        self._stdout = sys.stdout
        self._stack = ExitStack()
        self.progress: Progress = SILENT
        self._aside: Callable[[], AbstractContextManager[None]] = nullcontext

    def __enter__(self) -> Self:
        if self._talks:
            from blip_edge.cli.bars import listen

            self.progress = listener = self._stack.enter_context(listen())
            if self._stdout.isatty():
                self._aside = listener.aside
            self._stack.enter_context(redirect_stdout(sys.stderr))
        else:
            nowhere = self._stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            self._stack.enter_context(redirect_stdout(nowhere))
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def line(self, text: str) -> None:
        """One line of result, at once; nothing with --json."""
        if not self.json:
            with self._aside():
                self._print(text)

    @contextmanager
    def rows(self) -> Iterator[Callable[[Any, str], None]]:
        """For results that come one after the other: call with each one, and its line of text.

        With --json they are the elements of one array, which is closed however the block ends; it
        stays away if the block fails before the first.
        """
        count = 0

        def row(value: Any, text: str) -> None:
            nonlocal count
            self.line(text)
            if self.json:
                start = ",\n" if count else "[\n"
                self._print(f"{start}{indent(self._document(value), '  ')}", end="")
            count += 1

        try:
            yield row
            if self.json and not count:
                self._print("[]")
        finally:
            if self.json and count:
                self._print("\n]")

    def result(self, value: Any, text: str | None = None) -> None:
        """The result: `value` with --json, else `text`, or nothing if `line` printed it already."""
        if self.json:
            self._print(self._document(value))
        elif text is not None:
            self._print(text)

    def folder(self, folder: Path) -> None:
        """A folder as the result: what it is, and where it comes from."""
        from blip_edge.cli.describe import describe
        from blip_edge.cli.tell import tell

        try:
            facts = describe(folder)
            text = tell(facts)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{folder}: a file in it is not as written ({error!r})") from None
        self.result(facts, text)

    def next(self, *words: str | Path) -> None:
        """The last line: what to type next."""
        if self._talks:
            print(f"next: {shlex.join(str(word) for word in words)}", file=sys.stderr)

    def _document(self, value: Any) -> str:
        # What a narrower encoding has not is escaped as JSON does it, not as Python does.
        narrow = not (self._stdout.encoding or "utf-8").lower().startswith("utf")
        return json.dumps(plain(value), indent=2, ensure_ascii=narrow)

    def _print(self, text: str, *, end: str = "\n") -> None:
        try:
            print(text, end=end, file=self._stdout, flush=True)
        except BrokenPipeError:
            # `| head` has read enough. What is still in the buffer must not fail once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())
            sys.exit(_UNREAD)


def complain(message: str) -> None:
    """One line on stderr about what went wrong."""
    print(message, file=sys.stderr)


def table(rows: Sequence[Sequence[str]], *, head: Sequence[str] | None = None) -> str:
    """Rows in aligned columns; columns of numbers stand to the right.

    No borders and no colours: it reads the same in a terminal, a file and a pipe.
    """
    cells = [list(head)] if head else []
    cells += [list(row) for row in rows]
    columns = list(zip(*cells, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [_numeric(column[1 if head else 0 :]) for column in columns]
    lines = (
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, right, strict=True)
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: paths as text, dataclasses as objects, NaN and infinity null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = getattr(value, "to_json", None)
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return plain(own() if own is not None else fields)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    # numpy's numbers are no Python numbers, and numpy is not worth importing to ask.
    item = getattr(value, "item", None)
    return plain(item()) if callable(item) else value


def _numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", "-")]
    return bool(filled) and all(cell[:1].isdigit() or cell[:2] in _SIGNED for cell in filled)


_SIGNED = frozenset(f"{sign}{digit}" for sign in "+-" for digit in range(10))
