"""Words that a teacher cannot spell teach nothing: few are named, many stop the run."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from blip_edge.artifact import write_json
from blip_edge.data import Dataset
from blip_edge.distill import DistillRecipe, PruneRecipe, distill, prune
from blip_edge.errors import ArtifactError
from blip_edge.models import save_model
from tests.unit.distill import sizes

HOW: dict[str, Any] = {"steps": 1, "batch": 4, "calibration": 1}
RUNS: dict[str, Any] = {
    "distill": (distill, DistillRecipe(**HOW, text_layers=1)),
    "prune": (prune, PruneRecipe(**HOW, keep=0.8)),
}


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def track(self, items: Any, description: str, *, total: int | None = None) -> Any:
        return items

    def note(self, text: str) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def teacher(world: Dataset, tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    folder.mkdir()
    save_model(folder, sizes.model(world, "caption"))
    return folder


def told(world: Dataset, folder: Path, *captions: str) -> Path:
    """The world's first 200 pictures with captions, some of them `captions`."""
    rows: list[dict[str, Any]] = [
        {"image": r.image, "caption": r.captions[0]} for r in world.captions("train")
    ] * 200
    rows = [{**row, "image_id": i} for i, row in enumerate(rows[:200])]
    for row, caption in zip(rows, captions, strict=False):
        row["caption"] = caption
    folder.mkdir()
    shutil.copytree(world.folder / "images", folder / "images")
    shutil.copy(world.folder / "dataset.json", folder)
    write_json(folder / "caption_train.json", rows)
    return folder


@pytest.mark.parametrize("verb", RUNS)
def test_an_emoji_is_named_and_stops_nothing(
    world: Dataset, teacher: Path, tmp_path: Path, verb: str
) -> None:
    (run, recipe), listener = RUNS[verb], Listener()
    data = told(world, tmp_path / "data", "a red circle \N{DOG FACE}")
    assert run(teacher, data, tmp_path / "x", recipe, progress=listener).is_dir()
    warnings = [line for line in listener.said if line.startswith("warning")]
    assert len(warnings) == 1
    assert "1 of 200 texts" in warnings[0] and "'\N{DOG FACE}'" in warnings[0]


@pytest.mark.parametrize("verb", RUNS)
def test_a_language_that_the_teacher_does_not_know_is_refused(
    world: Dataset, teacher: Path, tmp_path: Path, verb: str
) -> None:
    run, recipe = RUNS[verb]
    data = told(world, tmp_path / "data", *["кот спит"] * 200)
    with pytest.raises(ArtifactError, match=r"data: 200 of 200 texts .* 'кот', 'спит'; take"):
        run(teacher, data, tmp_path / "x", recipe)
    assert not (tmp_path / "x").exists()


def test_what_the_teacher_cannot_spell_is_not_asked_of_its_vocabulary(
    world: Dataset, teacher: Path, tmp_path: Path
) -> None:
    run, recipe = RUNS["distill"]
    data = told(world, tmp_path / "data", *["a red circle \N{DOG FACE}"] * 20)
    assert run(teacher, data, tmp_path / "x", recipe, vocab_from=data).is_dir()


def test_a_vocabulary_must_cover_tars_too(world: Dataset, teacher: Path, tmp_path: Path) -> None:
    words = told(world, tmp_path / "words", *["a red circle"] * 200)
    with tarfile.open(tmp_path / "pairs.tar", "w") as archive:
        for number, row in enumerate(world.captions("train")[:8]):
            archive.add(world.image_path(row.image), f"{number}.png")
            told_of = tmp_path / f"{number}.json"
            told_of.write_text(json.dumps({"caption": row.captions[0]}))
            archive.add(told_of, told_of.name)
    run, recipe = RUNS["distill"]
    with pytest.raises(ArtifactError, match="words: the vocabulary cannot spell"):
        run(teacher, str(tmp_path / "pairs.tar"), tmp_path / "x", recipe, vocab_from=words)
    assert not (tmp_path / "x").exists()
