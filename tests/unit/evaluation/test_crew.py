"""Several processes find what one does; here they are threads that meet at a barrier."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.evaluation import Bootstrap, Crew, EvalSettings, Evaluation, evaluate_loaded
from tests.unit.evaluation.rule import Rule

CI = Bootstrap(resamples=20)
TASKS = ["caption", "vqa", "nlvr2", "retrieval", "pairs", "attributes"]


def together(world: int, work: Callable[[Crew], Any]) -> list[Any]:
    """What `work` gives, or raises, in each of `world` threads."""
    barrier, slots = threading.Barrier(world, timeout=20), list[Any]([None] * world)
    results = list[Any]([None] * world)

    def run(rank: int) -> None:
        def everyone(mine: Any) -> list[Any]:
            slots[rank] = mine
            barrier.wait()
            found = list(slots)
            barrier.wait()
            return found

        try:
            results[rank] = work(Crew(rank, world, everyone))
        except ArtifactError as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def found(data: Dataset, task: str, crew: Crew | None = None, **how: Any) -> Evaluation:
    settings = EvalSettings(ci=CI, **how) if crew is None else EvalSettings(ci=CI, crew=crew, **how)
    return evaluate_loaded(Rule(wrong="blue"), data, task, "test", settings)


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("task", TASKS)
def test_many_find_what_one_does(data: Dataset, task: str, world: int) -> None:
    """Four pictures in batches of one: of five processes one has nothing to do."""
    one = found(data, task, batch=1)
    for each in together(world, lambda crew: found(data, task, crew, batch=1)):
        assert each == one


def test_dialogs_too(talk: Dataset) -> None:
    one = found(talk, "visdial")
    assert together(3, lambda crew: found(talk, "visdial", crew)) == [one] * 3


def test_each_asks_about_its_share_only(data: Dataset) -> None:
    models = [Rule(), Rule()]

    def work(crew: Crew) -> Evaluation:
        how = EvalSettings(crew=crew)
        return evaluate_loaded(models[crew.rank], data, "retrieval", "test", how)

    together(2, work)
    alone = Rule()
    evaluate_loaded(alone, data, "retrieval", "test", EvalSettings())
    assert [model.reads for model in models] == [alone.reads // 2] * 2


def test_a_group_goes_through_the_model_whole() -> None:
    shares = together(2, lambda crew: crew.gathered(["abc", "de", "f"], lambda one: [one], "x"))
    assert shares == [["abc", "de", "f"]] * 2


@pytest.mark.parametrize("task", TASKS)
def test_what_is_left_out_is_left_out_of_all(data: Dataset, task: str) -> None:
    (data.folder / "images" / "white.png").write_bytes(b"no picture")
    one = found(data, task, batch=1, max_bad=0.5)
    assert [skipped.image for skipped in one.skipped] == ["white.png"]
    shares = together(2, lambda crew: found(data, task, crew, batch=1, max_bad=0.5))
    assert shares == [one, one]


def test_pictures_that_are_too_many_only_together_stop_all(data: Dataset) -> None:
    for name in ("red.png", "white.png"):  # one in each share
        (data.folder / "images" / name).write_bytes(b"no picture")
    for error in together(2, lambda crew: found(data, "vqa", crew, batch=1, max_bad=0.3)):
        assert isinstance(error, ArtifactError)
        assert "2 of 4 pictures cannot be read" in str(error)


def test_a_failure_of_one_is_everybodys(data: Dataset, tmp_path: Path) -> None:
    (data.folder / "images" / "white.png").unlink()
    errors = together(2, lambda crew: found(data, "vqa", crew, batch=1, max_bad=0))
    assert all(isinstance(error, ArtifactError) and "white.png" in str(error) for error in errors)


def test_what_is_done_once_is_done_by_the_first() -> None:
    done: list[int] = []

    def work(crew: Crew) -> str:
        def once() -> str:
            done.append(crew.rank)
            return "done"

        return crew.once(once)

    assert together(3, work) == ["done"] * 3
    assert done == [0]
