"""What every test gets: no network, one thread, and the command line as a user meets it."""

import random
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line: words in, (exit code, stdout, stderr) out."""
    from blip_edge.cli import main

    def run(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["blip-edge", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        code = stop.value.code
        assert isinstance(code, int)
        return code, captured.out, captured.err

    return run


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    """The same random numbers whatever ran before; one thread, because sums depend on it."""
    random.seed(0)
    np.random.seed(0)
    # Tests of the torch-free floors shall not pay for importing it.
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(0)
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests build what they need: a connection to another machine fails the test."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            _refuse(address)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


def _is_local(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _refuse(address: Any) -> NoReturn:
    # Not an OSError: code that shrugs off a lost connection must not shrug this off.
    raise AssertionError(f"a test wanted to reach {address}")
