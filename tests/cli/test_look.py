"""`inspect --memory` as a user types it."""

import json
from pathlib import Path

import pytest

from tests.conftest import Run

pytest.importorskip("torch")


def test_the_memory_of_a_preset_needs_no_weights(run: Run) -> None:
    argv = ("inspect", "--preset", "large", "--memory", "--recipe", "pretrain-129m-large")
    code, out, err = run(*argv, "--set", "batch=2", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["task"], facts["batch"], facts["image_size"]) == ("pretrain", 2, 224)
    terms = dict(facts["memory"])
    assert terms.pop("total") == sum(terms.values())
    assert terms["weights"] == 4 * facts["parameters"]
    assert terms["momentum"] > 0
    code, out, _ = run(*argv)
    assert "momentum encoders" in out
    assert "in all" in out


def test_a_model_is_reckoned_for_what_it_was_made_for(run: Run, model: Path) -> None:
    code, out, err = run("inspect", model, "--memory", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["task"] == "caption"
    assert facts["image_size"] == 32
    code, own, _ = run("inspect", model, "--json")
    assert json.loads(own)["parameters"] == facts["parameters"]
    code, out, _ = run("inspect", model, "--memory", "--set", "task=retrieval", "--json")
    assert (code, json.loads(out)["task"]) == (0, "retrieval")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        ((), "FOLDER"),
        (("--memory",), "--preset"),
        (("--preset", "base"), "--memory"),
        (("--preset", "base", "--memory", "--set", "bach=2"), "did you mean 'batch'"),
        (("--preset", "base", "--memory", "--set", "image_size=225"), "multiple"),
    ],
)
def test_what_makes_no_sense_is_said(run: Run, argv: tuple[str, ...], word: str) -> None:
    code, out, err = run("inspect", *argv)
    assert (code, out) == (2, "")
    assert word in err


def test_data_is_not_trained(run: Run, data: Path) -> None:
    code, _, err = run("inspect", data, "--memory")
    assert code == 3
    assert "MODEL" in err
