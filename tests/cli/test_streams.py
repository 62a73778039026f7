"""stdout is the result, stderr is talk, and --json is exactly one document."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blip_edge.cli.bars import listen
from blip_edge.cli.output import Output, plain, table
from tests.cli.conftest import TINY_WORLD
from tests.conftest import Run


def test_talk_stays_off_stdout(run: Run, tmp_path: Path) -> None:
    code, out, err = run("data", "make", "shapes", "-o", tmp_path / "d", *TINY_WORLD)
    assert code == 0
    assert out.startswith("data ")
    assert "drawing" not in out
    assert "drawing" in err
    assert err.splitlines()[-1].startswith("next: blip-edge train --data")
    assert "\x1b" not in out + err


def test_quiet_is_quiet(run: Run, tmp_path: Path) -> None:
    code, out, err = run("data", "make", "shapes", "-o", tmp_path / "d", *TINY_WORLD, "--quiet")
    assert (code, err) == (0, "")
    assert out


@pytest.mark.parametrize(
    "argv",
    [
        ("data", "make", "shapes", "-o", "{tmp}/d", *TINY_WORLD),
        ("inspect", "{data}"),
        ("data", "check", "{data}"),
        ("doctor",),
        ("recipe",),
        ("recipe", "data"),
        ("recipe", "bench"),
    ],
    ids=lambda argv: " ".join(argv[:2]),
)
def test_json_is_the_only_thing_printed(
    run: Run, data: Path, tmp_path: Path, argv: tuple[str, ...]
) -> None:
    words = [word.replace("{data}", str(data)).replace("{tmp}", str(tmp_path)) for word in argv]
    code, out, err = run(*words, "--json")
    assert (code, err) == (0, "")
    json.loads(out)


def test_what_packages_print_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    with Output() as out:
        print("a package's banner")
        out.result({"answer": 42}, "answer 42")
    with Output(json=True) as out:
        print("a package's banner")
        out.line("text only")
        out.result({"answer": 42}, "answer 42")
    captured = capsys.readouterr()
    assert captured.out == 'answer 42\n{\n  "answer": 42\n}\n'
    assert captured.err == "a package's banner\n"


def test_next_can_be_typed_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    with Output() as out:
        out.next("blip-edge", "train", "--data", Path("my data"))
    assert capsys.readouterr().err == "next: blip-edge train --data 'my data'\n"


def test_json_holds_no_nan(tmp_path: Path) -> None:
    value = {"path": tmp_path, "rows": (1.5, float("nan"), float("inf")), "none": None, "yes": True}
    assert plain(value) == {
        "path": str(tmp_path),
        "rows": [1.5, None, None],
        "none": None,
        "yes": True,
    }


def test_columns_line_up_and_numbers_stand_right() -> None:
    text = table([("a", "1.5", "x"), ("bcd", "-", ""), ("e", "12.5", "y")], head=("n", "ms", ""))
    assert text == "n      ms\na     1.5  x\nbcd     -\ne    12.5  y"


def test_a_log_file_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("blip_edge.cli.bars._SECONDS_BETWEEN_LINES", 0.0)
    with listen() as progress:
        for step in progress.track(range(3), "training"):
            progress.note(f"loss {3 - step}")
        for _ in progress.track((), "nothing to do"):
            pass
        for _ in progress.track(range(2), "timing", total=1):
            pass
        progress.say("done")
    assert capsys.readouterr().err.splitlines() == [
        "training: 1 of 3, 0:00 left, loss 3",
        "training: 2 of 3, 0:00 left, loss 2",
        "training: 3 in 0:00, loss 1",
        "timing: 2, 0:00",
        "timing: 2 in 0:00",
        "done",
    ]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_a_terminal_gets_bars_and_the_result_stays_clean(tmp_path: Path) -> None:
    import pty

    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "blip_edge", "data", "make", "shapes", "-o", f"{tmp_path}/d"]
    done = subprocess.run(
        [*command, *TINY_WORLD],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=os.environ | {"TERM": "xterm"},
        check=True,
    )
    os.close(terminal)
    shown = os.read(controller, 1 << 20).decode()
    os.close(controller)
    assert "12/12" in shown
    assert "\x1b[" in shown
    assert b"\x1b" not in done.stdout
