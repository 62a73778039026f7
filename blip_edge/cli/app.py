"""The verbs put together, and the one place where an exception becomes a line and an exit code."""

import errno
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Annotated

import typer

from blip_edge.cli import ask, bootstrap, build, data, find, judge, look, ship, speed, start
from blip_edge.cli.options import examples
from blip_edge.cli.output import complain
from blip_edge.errors import BlipEdgeError

__all__ = ["app", "main"]

_DEBUG = "BLIP_EDGE_DEBUG"
_INTERRUPTED = 130
# What a user's disk can answer to a write; anything else from the system is a bug of ours.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}

app = typer.Typer(
    name="blip-edge",
    pretty_exceptions_enable=False,  # a plain traceback can be pasted into a bug report
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "blip-edge quickstart -o runs/quickstart",
        "blip-edge caption runs/quickstart/onnx photo.jpg",
        "[dim]Exit codes: 0 done, 1 a bug of ours, 2 flags and recipe keys, 3 a folder or file, "
        "4 a missing extra, 5 worse than the tolerance, 130 interrupted, "
        "141 the output's reader left. "
        "BLIP_EDGE_DEBUG=1 shows tracebacks.[/dim]",
    ),
)
app.add_typer(start.app)
app.add_typer(data.app, name="data", rich_help_panel="Data")
app.add_typer(bootstrap.app)
app.add_typer(build.app)
app.add_typer(ship.app)
app.add_typer(ask.app)
app.add_typer(find.app)
app.add_typer(judge.app)
app.add_typer(speed.app)
app.add_typer(look.app)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version.")
    ] = False,
) -> None:
    """Train, distil, prune, quantize and export BLIP, and run it on edge devices.

    Every verb reads folders and writes one folder, and ends by saying what to type next.
    """
    if version:
        from blip_edge import __version__

        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line on `sys.argv` and exit with the documented code."""
    if isinstance(sys.stdout, TextIOWrapper):
        # A file's name may be any bytes, and a terminal may have no letter for a word.
        sys.stdout.reconfigure(errors="backslashreplace")
    _end_as_interrupted()
    with _quiet_libraries():
        try:
            code = app(prog_name="blip-edge", standalone_mode=False)
        except Exception as error:
            known = _explain(error)
            if known is None or os.environ.get(_DEBUG):
                raise
            code, message = known
            complain(f"error: {message}")
    if code == _INTERRUPTED:
        complain("interrupted")
    sys.exit(code or 0)


def _end_as_interrupted() -> None:
    """Have `kill`, `timeout` and a terminal that closes do what Ctrl-C does: drafts are removed."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores it
            signal.signal(number, interrupt)


def _explain(error: Exception) -> tuple[int, str] | None:
    """The exit code and the line for a failure that is not a bug of ours."""
    if isinstance(error, BlipEdgeError):
        return error.exit_code, _one_line(str(error))
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        where = f" (see: {context.command_path} --help)" if context is not None else ""
        # typer hands on pydantic's word for a value that a choice does not have.
        message = error.format_message().replace("Value error, ", "")
        return 2, _one_line(message) + where
    if isinstance(error, MemoryError):
        return 3, "out of memory; give smaller pictures or a smaller batch, or close something"
    if isinstance(error, OSError) and error.errno in _DISK:
        where = f"{error.filename}: " if error.filename else ""
        what = "the disk is full" if error.errno == errno.ENOSPC else error.strerror
        return 3, f"{where}{what}; nothing half-written was left behind"
    return None


def _one_line(message: str) -> str:
    return " ".join(message.split())


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep other packages' warnings and log lines off stderr, which is for us to talk on."""
    if os.environ.get(_DEBUG):
        yield
        return
    # Read when the packages are first imported, which is later.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
