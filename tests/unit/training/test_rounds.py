"""Bootstrapping in rounds: each is done by what the one before taught, whoever kills the run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blip_edge.artifact import read_provenance, sha256_folder
from blip_edge.data.shapes import make
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation.capfilt import RoundsRecipe
from blip_edge.training import rounds, train
from blip_edge.training.rounds import Trainings, bootstrap_in_rounds
from tests import tiny
from tests.conftest import Run
from tests.unit.training.test_every_task import PRETRAIN

TRAININGS = Trainings(
    pretrain=PRETRAIN,
    caption=replace(PRETRAIN, task="caption"),
    retrieval=replace(PRETRAIN, task="retrieval"),
)
TWO = RoundsRecipe(rounds=2, pretrain="a", caption="b", retrieval="c", threshold=0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("rounds") / "world", replace(tiny.WORLD, web=6)).folder


@pytest.fixture(scope="module")
def models(world: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A captioner and a filter of the noisy texts."""
    folder = tmp_path_factory.mktemp("models")
    begun = train(world, folder / "begun", PRETRAIN)
    return {
        "captioners": [train(world, folder / "caption", TRAININGS.caption, init=begun)],
        "filters": [train(world, folder / "retrieval", TRAININGS.retrieval, init=begun)],
    }


def twice(world: Path, output: Path, models: dict[str, Any], **how: Any) -> Path:
    return bootstrap_in_rounds(world, output, how.pop("recipe", TWO), TRAININGS, **models, **how)


def said(out: Path) -> list[tuple[str, float]]:
    """Every text with its score; digests of models are of folders that tell when they were made."""
    rows = [json.loads(line) for line in (out / "texts.jsonl").read_text().splitlines()]
    return [(row["caption"], row["itm"]) for row in rows]


def test_the_second_round_is_done_by_models_of_the_first(
    world: Path, tmp_path: Path, models: dict[str, Any]
) -> None:
    out = twice(world, tmp_path / "out", models)
    kept = tmp_path / "out.rounds"
    learned = [kept / "models-1" / task for task in ("caption", "retrieval")]
    provenance = read_provenance(out)
    assert provenance is not None
    assert [p["sha256"] for p in provenance.parents] == [sha256_folder(m) for m in learned]
    begun = read_provenance(kept / "models-1" / "pretrain")
    assert begun is not None and begun.data is not None
    first = json.loads((kept / "texts-1" / "web_train.json").read_text())
    assert begun.data["items"] >= len(first), "it learned from what the first round left"
    rows = [json.loads(line) for line in (out / "texts.jsonl").read_text().splitlines()]
    assert {row["round"] for row in rows if row["source"] == "synthetic"} == {2}


def test_a_killed_run_goes_on_where_it_was(
    world: Path, tmp_path: Path, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = twice(world, tmp_path / "whole", models)
    asked: list[str] = []

    def dies(data: Any, output: Path, *args: Any, **how: Any) -> Path:
        asked.append(output.name)
        if output.name == "retrieval" and asked.count("retrieval") == 1:
            raise KeyboardInterrupt
        return train(data, output, *args, **how)

    monkeypatch.setattr(rounds, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        twice(world, tmp_path / "out", models)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ArtifactError, match="continue it with --resume"):
        twice(world, tmp_path / "out", models)
    with pytest.raises(ArtifactError, match="other data, models or settings"):
        twice(world, tmp_path / "out", models, resume=True, recipe=replace(TWO, top_p=0.5))
    out = twice(world, tmp_path / "out", models, resume=True)
    assert said(out) == said(whole)


def test_only_what_the_first_round_had_is_trained(
    world: Path, tmp_path: Path, models: dict[str, Any]
) -> None:
    out = twice(world, tmp_path / "out", {**models, "filters": []})
    assert not (tmp_path / "out.rounds" / "models-1" / "retrieval").exists()
    assert json.loads((out / "capfilt.json").read_text())["synthetic"]["texts"]


def test_what_cannot_be_done_is_refused_before_any_work(
    world: Path, tmp_path: Path, models: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="need a data set"):
        bootstrap_in_rounds(Path("a-{0..3}.tar"), tmp_path / "out", TWO, TRAININGS, **models)
    swapped = TRAININGS._replace(caption=TRAININGS.retrieval)
    with pytest.raises(UsageError, match="caption needs a recipe of that task, not of retrieval"):
        bootstrap_in_rounds(world, tmp_path / "out", TWO, swapped, **models)
    with pytest.raises(UsageError, match="give a captioner, a filter, or both"):
        bootstrap_in_rounds(world, tmp_path / "out", TWO, TRAININGS)
    (tmp_path / "web").mkdir()
    shutil.copy(world / "dataset.json", tmp_path / "web")
    with pytest.raises(ArtifactError, match="has no caption_train"):
        twice(tmp_path / "web", tmp_path / "out", models)
    (tmp_path / "mine").mkdir()
    with pytest.raises(ArtifactError, match="already exists"):
        twice(world, tmp_path / "mine", models)
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "web"}


def test_the_command_line_names_the_trainings_that_are_missing(run: Run, tmp_path: Path) -> None:
    words = ("--filter", tmp_path, "--data", tmp_path, "-o", tmp_path / "out")
    code, _, err = run("capfilt", *words, "--rounds", 2)
    assert (code, err.count("\n")) == (2, 1)
    assert "name recipes of train as pretrain, caption, retrieval" in err
    code, _, err = run(
        "capfilt", *words, "--recipe", "web-rounds", "--set", "caption=shape-caption"
    )
    assert (code, err.count("\n")) == (2, 1) and "shapes-caption" in err
