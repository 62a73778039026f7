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


def script(body: str, **environment: str) -> "subprocess.Popen[bytes]":
    """A verb's printing in a process of its own, with real pipes."""
    start = "from blip_edge.cli import app, main, output\n@app.app.command()\ndef say() -> None:\n"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    run = "import sys; sys.argv = ['blip-edge', 'say']; main()"
    return subprocess.Popen(
        [sys.executable, "-c", f"{start}{lines}{run}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
@pytest.mark.parametrize("json", ["False", "True"])
def test_a_reader_who_leaves_ends_the_verb_quietly(json: str) -> None:
    """As with `| head -1`, which must not look like a bug of ours."""
    body = (
        f"with output.Output(json={json}, quiet=True) as out, out.rows() as row:\n"
        "    for number in range(100_000):\n"
        "        row(number, f'{number}')"
    )
    with script(body) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().strip() in (b"0", b"[")
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


def test_what_a_terminal_has_no_letters_for_is_escaped() -> None:
    said = "out.result('caf\u00e9 \u65e5', 'caf\u00e9 \u65e5')"
    for flag, expected in (("json", b'"caf\\u00e9 \\u65e5"\n'), ("quiet", b"caf\\xe9 \\u65e5\n")):
        body = f"with output.Output({flag}=True) as out:\n    {said}"
        process = script(body, PYTHONIOENCODING="ascii")
        assert process.communicate(timeout=60) == (expected, b"")


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
