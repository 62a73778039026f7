"""`optimum-cli export blip-edge` is `blip-edge export`: found, obeyed, refused in the same way."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from blip_edge.artifact import kind
from blip_edge.runtime.manifest import read_manifest

optimum_cli = pytest.importorskip("optimum.commands.optimum_cli")

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """optimum's own command line: (exit code, stdout, stderr)."""

    def run(*words: str | Path) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            optimum_cli.main()
        return stop.value.code, *capsys.readouterr()

    return run


def test_optimum_lists_our_command(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    assert "blip-edge" in out


def test_a_bundle_is_made_as_the_flags_say(folder: Path, tmp_path: Path, run: Run) -> None:
    pytest.importorskip("onnxscript")
    output = tmp_path / "bundle"
    sizes = ("--set", "golden=1", "--set", "teacher_forced=8")
    code, out, err = run("blip-edge", folder, output, "--target", "onnx", "--json", *sizes)
    assert (code, err) == (0, "")
    assert json.loads(out)
    assert kind(output) == "bundle"
    assert read_manifest(output).target == "onnx"
    recipe = json.loads((output / "provenance.json").read_text())["recipe"]
    assert (recipe["golden"], recipe["teacher_forced"]) == (1, 8)
    code, _, err = run("blip-edge", folder, output, "--target", "onnx", "--quiet")
    assert code == 3, "what is there was replaced unasked"
    assert err.startswith("error: ") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "expected", "says"),
    [
        (("--target", "moon"), 2, "'moon' is not one of"),
        (("--target", "onnx", "--precision", "int8"), 3, "blip-edge quantize"),
        (("--target", "onnx", "--set", "goldn=3"), 2, "golden"),
        (("--target", "onnx", "--recipe", "nowhere.toml"), 2, "nowhere.toml"),
    ],
)
def test_errors_are_our_line_and_exit_code(
    folder: Path, tmp_path: Path, run: Run, flags: tuple[str, ...], expected: int, says: str
) -> None:
    code, out, err = run("blip-edge", folder, tmp_path / "out", *flags)
    assert (code, out) == (expected, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert says in err
    assert list(tmp_path.iterdir()) == []


def test_nothing_heavy_is_imported_to_list_commands() -> None:
    import subprocess

    program = (
        "import optimum.commands.register.register_blip_edge, sys; "
        "sys.exit(bool({'torch', 'onnxruntime'} & sys.modules.keys()))"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0
