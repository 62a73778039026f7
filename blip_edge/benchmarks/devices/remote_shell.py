"""A shell on another machine, through the system's own `ssh`.

Scripts are for the plain POSIX shell and come on its standard input; what they are told comes as
quoted words. So neither the account's login shell nor a name of ours matters there.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any, Self

from blip_edge.errors import MissingExtraError, UsageError

__all__ = ["CONNECTION_LOST", "Address", "RemoteShell", "end_of", "last_line"]

CONNECTION_LOST = 255
"""The exit code of ssh itself, when it could not connect or the connection broke."""

_CONNECT_SECONDS = 10
_ALIVE_SECONDS = 5
_END_SECONDS = 10
_ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True)
class Address:
    """`[user@]host[:port]`; the rest is in the user's own ssh configuration."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Raises:
            UsageError: it is none; in particular nothing that ssh would take for an option.
        """
        found = _ADDRESS.fullmatch(text)
        port = None if found is None or found["port"] is None else int(found["port"])
        if found is None or (port is not None and not 0 < port < 65536):
            raise UsageError(f"{text!r} is no address; give ssh:[USER@]HOST[:PORT]")
        return cls(found["host"].strip("[]"), found["user"], port)

    def words(self) -> list[str]:
        """As ssh takes it."""
        words = [] if self.port is None else ["-p", str(self.port)]
        words += [] if self.user is None else ["-l", self.user]
        return [*words, "--", self.host]


class RemoteShell:
    """Runs scripts on `address`.

    Raises:
        MissingExtraError: this machine has no ssh.
    """

    def __init__(self, address: Address) -> None:
        program = shutil.which("ssh")
        if program is None:
            raise MissingExtraError(
                "ssh is not installed; on Debian and Ubuntu: apt-get install openssh-client"
            )
        options = {
            "BatchMode": "yes",  # a question would wait for ever
            "ConnectTimeout": _CONNECT_SECONDS,
            "ServerAliveInterval": _ALIVE_SECONDS,
            "ServerAliveCountMax": 3,
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self._command = [program, "-T", *words, *address.words()]

    def run(self, script: str, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `script` with `words` as $1, $2 …, and wait."""
        return subprocess.run(
            self.command("sh", "-s", "--", *words),
            input=script,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def feed(self, write: Callable[[IO[bytes]], None], *words: str) -> str | None:
        """Run `words` there with what `write` writes as input; what it said if it failed."""
        with TemporaryFile() as stderr:
            process = subprocess.Popen(
                self.command(*words),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
            assert process.stdin is not None
            try:
                with suppress(BrokenPipeError), process.stdin:  # it ended; its own words say why
                    write(process.stdin)
            except BaseException:
                process.kill()
                raise
            finally:
                code = process.wait()
            stderr.seek(0)
            said = last_line(stderr.read().decode(errors="replace"))
        return None if code == 0 else said or f"it ended with {code}"

    def open(self, script: str, *words: str, stderr: Any) -> "subprocess.Popen[str]":
        """Start `script` there; its standard output is read by the caller, line by line."""
        process = subprocess.Popen(
            self.command("sh", "-s", "--", *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdin is not None
        with suppress(BrokenPipeError), process.stdin:  # no connection; its exit code says so
            process.stdin.write(script)
        return process

    def command(self, *words: str) -> list[str]:
        """The local command line that runs `words` there."""
        return [*self._command, shlex.join(words)]


def end_of(process: "subprocess.Popen[str]") -> int:
    """The exit code of a process that has said all; one that hangs at its end is killed."""
    try:
        return process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def last_line(text: str) -> str:
    """What a program said last, which is why it failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
