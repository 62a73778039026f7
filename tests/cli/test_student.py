"""`inspect --student` as a user types it."""

import json
from pathlib import Path

import pytest

from tests.conftest import Run

pytest.importorskip("torch")

ZEN = ("--device", "epyc-zen4-2core")


def test_a_preset_is_weighed_before_anything_is_trained(run: Run) -> None:
    code, out, err = run("inspect", "--student", "edge-s", *ZEN, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    teacher, student = facts["costs"]["teacher"], facts["costs"]["student"]
    assert teacher["parameters"] == 223_971_644
    assert facts["share"] == student["parameters"] / teacher["parameters"]
    assert sum(student["parts"].values()) == student["parameters"]
    assert student["bytes"]["fp32"] == 4 * student["parameters"]
    assert student["bytes"]["int8"] < student["bytes"]["fp16"] < student["bytes"]["fp32"]
    assert set(student["macs"]) == {"vision", "prefill", "step", "caption"}
    for precision, times in student["roofline_ms"].items():
        assert all(times[stage] < teacher["roofline_ms"][precision][stage] for stage in times)
        assert times["caption"] > times["vision"] + 15 * times["prefill"]
    assert facts["device"]["gemm_gflops"]["kind"] == "measured"


def test_the_table_has_a_line_for_each_stage_and_precision(run: Run) -> None:
    code, out, _ = run("inspect", "--student", "edge-nano", *ZEN)
    assert code == 0
    lines = {line.split("  ")[0]: line for line in out.splitlines()}
    assert lines["parameters"].split() == ["parameters", "224", "M", "7.43", "M", "3.3%"]
    for precision in ("fp32", "fp16", "int8"):
        assert "MB" in lines[f"weights, {precision}"]
        assert " ms" in lines[f"caption, {precision}"]
    assert "not forecasts" in out


def test_this_machine_is_measured_and_says_nothing_of_8_bits(run: Run) -> None:
    code, out, _ = run("inspect", "--student", "edge-xs", "--json")
    facts = json.loads(out)
    assert (code, facts["device"]["name"]) == (0, "this")
    assert set(facts["costs"]["student"]["roofline_ms"]["int8"].values()) == {None}
    assert facts["costs"]["student"]["roofline_ms"]["fp32"]["caption"] > 0


def test_a_larger_teacher_and_single_keys(run: Run) -> None:
    argv = ("inspect", "--student", "edge-s", "--preset", "large", *ZEN, "--json")
    code, out, _ = run(*argv, "--set", "text_layers=1")
    facts = json.loads(out)
    assert (code, facts["teacher"]) == (0, "large")
    assert facts["sizes"]["text_layers"] == 1
    assert facts["costs"]["teacher"]["vision"]["hidden_size"] == 1024
    assert facts["costs"]["student"]["text"]["num_hidden_layers"] == 1


def test_a_student_of_another_teacher_is_told_whose_sizes_it_was_held_to(run: Run) -> None:
    code, out, err = run("inspect", "--student", "shapes-25", *ZEN)
    assert (code, out) == (2, "")
    assert "the teacher is BLIP base, as no MODEL folder was given" in err
    assert err.count("\n") == 1


def test_a_model_folder_is_a_teacher_and_a_file_a_student(
    run: Run, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "half.toml").write_text("vision_neurons = 8\ntext_heads = 1\n")
    argv = ("inspect", "--student", tmp_path / "half.toml", model, *ZEN)
    code, out, err = run(*argv, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    code, own, _ = run("inspect", model, "--json")
    assert facts["costs"]["teacher"]["parameters"] == json.loads(own)["parameters"]
    assert facts["costs"]["student"]["vision"]["intermediate_size"] == 8
    code, out, _ = run(*argv)
    assert "cannot hold this student" in out


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (("--student", "edge-ss"), "did you mean 'edge-s'"),
        (("--student", "nowhere.toml"), "no recipe file nowhere.toml"),
        (("--student", "edge-s", "--device", "toaster"), "epyc-zen4-2core"),
        (("--student", "edge-s", *ZEN, "--set", "vision_width=832"), "teacher has 768"),
        (("--student", "edge-s", *ZEN, "--set", "vison_width=64"), "did you mean 'vision_width'"),
        (("--student", "edge-s", "--memory"), "ask one"),
        (("--student", "edge-s", "--recipe", "shapes-caption"), "--set"),
        (("--student", "edge-s", "somewhere", "--preset", "base"), "one teacher"),
        (("somewhere", *ZEN), "--student"),
    ],
)
def test_what_makes_no_sense_is_said(run: Run, argv: tuple[str, ...], word: str) -> None:
    code, out, err = run("inspect", *argv)
    assert (code, out) == (2, "")
    assert word in err


def test_a_teacher_that_is_no_model_or_damaged(run: Run, data: Path, tmp_path: Path) -> None:
    code, _, err = run("inspect", "--student", "edge-s", data, *ZEN)
    assert code == 3
    assert "--student is of a MODEL" in err
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for content in ("{", "[]", '{"model_type": "blip"}'):
        (damaged / "config.json").write_text(content)
        (damaged / "model.safetensors").write_bytes(b"")
        code, out, err = run("inspect", "--student", "edge-s", damaged, *ZEN)
        assert (code, out) == (3, "")
        assert "config.json" in err


def test_students_are_listed_and_printed(run: Run) -> None:
    code, out, _ = run("recipe", "--json")
    assert {"verb": "student", "name": "shapes-10"} in json.loads(out)
    code, out, _ = run("recipe", "student", "shapes-25")
    assert code == 0
    assert "vision_width = 96" in out
