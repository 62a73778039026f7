"""Checkpoints: whole or not there, the last two, and only for the run that they are of."""

import errno
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.training import checkpoints as module
from blip_edge.training.checkpoints import Checkpoints, Snapshot
from blip_edge.training.randomness import random_state, set_random_state, undisturbed

RECIPE = {"lr": 0.1, "batch": 8, "steps": 4, "prompt": "a ", "sizes": (1, 2)}


def snapshot(number: int) -> Snapshot:
    tensors = {
        "w": torch.full((3, 2), float(number)),
        "none": torch.zeros(0),
        "one": torch.ones(()),
    }
    return Snapshot(tensors, {"steps": number, "curve": [{"step": 0.0, "l": 0.1}]})


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A run that saved three times."""
    made = Checkpoints(tmp_path / "run", RECIPE, every=2)
    assert made.begin({"processes": 1}) is None
    for number in (2, 4, 6):
        made.save(number, snapshot(number))
    return tmp_path / "run"


def resumed(folder: Path, recipe: dict[str, Any] = RECIPE, **also: Any) -> tuple[Any, list[str]]:
    """What is there, and what was said about it."""
    said: list[str] = []

    class Listener:
        track, note = staticmethod(lambda *_: iter(())), staticmethod(lambda _: None)
        say = staticmethod(said.append)

    made = Checkpoints(folder, recipe, every=2, resume=True)
    return made.begin({"processes": 1, **also}, Listener()), said  # type: ignore[arg-type]


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_the_last_two_are_kept(two: Path) -> None:
    assert [path.name[:14] for path in files(two)] == ["step-000000004", "step-000000006"]


def test_the_newest_comes_back_bit_for_bit(two: Path) -> None:
    found, said = resumed(two)
    expected = snapshot(6)
    assert found.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(found.tensors[n], expected.tensors[n]) for n in found.tensors)
    assert {key: found.values[key] for key in expected.values} == expected.values
    assert said == []


def test_what_a_killed_run_had_not_yet_forgotten_goes(two: Path) -> None:
    """Killed between the new snapshot and the end of the old one."""
    kept = files(two)
    older = kept[0].with_name(f"step-000000002-{'0' * 64}.safetensors")
    older.write_bytes(b"")
    (two / ".draft").mkdir()
    (two / ".draft" / ".tmpAbCdEf").write_bytes(b"half of it")
    found, said = resumed(two)
    assert (found.values["steps"], said, files(two)) == (6, [], kept)


def test_with_nothing_there_a_run_begins(tmp_path: Path) -> None:
    assert resumed(tmp_path / "nothing") == (None, [])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip, empty])
def test_of_a_damaged_one_the_one_before_is_taken_and_that_is_said(
    two: Path, damage: Callable[[Path], None]
) -> None:
    last = files(two)[-1]
    damage(last)
    found, said = resumed(two)
    assert found.values["steps"] == 4
    assert len(said) == 1 and said[0].startswith("warning: ") and str(last) in said[0]
    assert not last.exists(), "it must not count among the last two"


def test_without_a_whole_one_nothing_is_guessed(two: Path) -> None:
    for path in files(two):
        flip(path)
    with pytest.raises(ArtifactError, match=r"no checkpoint in .* is whole; delete it"):
        resumed(two)
    assert len(files(two)) == 2


def test_another_recipe_is_refused_and_its_keys_are_named(two: Path) -> None:
    other = {**RECIPE, "lr": 0.2, "prompt": "the ", "new": 1}
    del other["batch"]
    with pytest.raises(UsageError) as refused:
        resumed(two, other, processes=2)
    text = str(refused.value)
    for part in (
        "lr was 0.1 and is 0.2",
        "prompt was 'a ' and is 'the '",
        "batch was 8 and is not there",
        "new was not there and is 1",
        "processes was 1 and is 2",
    ):
        assert part in text
    assert "steps" not in text and "sizes" not in text


def test_a_run_that_is_not_to_be_resumed_is_not_lost(two: Path) -> None:
    with pytest.raises(ArtifactError, match=r"stopped after step 6; continue it with --resume"):
        Checkpoints(two, RECIPE, every=2).begin({})
    assert len(files(two)) == 2
    Checkpoints(two, RECIPE, every=2).clear()
    assert not two.exists()


def test_clearing_leaves_what_is_not_ours(two: Path) -> None:
    (two / "notes.txt").write_text("mine")
    Checkpoints(two, RECIPE, every=2).clear()
    assert [path.name for path in files(two)] == ["notes.txt"]


def test_a_full_disk_leaves_the_older_ones(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    before = files(two)
    made = Checkpoints(two, RECIPE, every=2, resume=True)
    made.begin({"processes": 1})
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", full)
        with pytest.raises(ArtifactError, match=r"step 8 cannot be written: .*No space left"):
            made.save(8, snapshot(8))
    assert files(two) == before
    made.save(8, snapshot(8))
    assert resumed(two)[0].values["steps"] == 8


@pytest.mark.parametrize("moment", ["save_file", "_flush", "sha256_file", "_delete"])
def test_a_kill_at_any_moment_of_writing_leaves_a_whole_one(
    two: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Checkpoints(two, RECIPE, every=2, resume=True)
    made.begin({"processes": 1})

    def kill(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt  # as good as a kill: nothing catches it

    with monkeypatch.context() as patch:
        patch.setattr(module, moment, kill)
        with pytest.raises(KeyboardInterrupt):
            made.save(8, snapshot(8))
    found, said = resumed(two)
    assert found.values["steps"] == (8 if moment == "_delete" else 6) and not said
    made.save(10, snapshot(10))
    assert len(files(two)) == 2, "whatever the kill had left is gone"


def test_a_file_of_another_version_is_passed_over(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Checkpoints(two, RECIPE, every=2, resume=True)
    made.begin({"processes": 1})
    with monkeypatch.context() as patch:
        patch.setattr(module, "_FORMAT", 99)
        made.save(8, snapshot(8))
    found, said = resumed(two)
    assert found.values["steps"] == 6 and "another version" in said[0]


def test_views_are_saved_as_what_they_show(tmp_path: Path) -> None:
    made = Checkpoints(tmp_path / "run", {}, every=1)
    view = torch.arange(6.0).view(2, 3).T
    made.save(1, Snapshot({"t": view}, {}))
    found = Checkpoints(tmp_path / "run", {}, every=1, resume=True).begin({})
    assert found is not None and torch.equal(found.tensors["t"], view)


def test_a_run_that_saves_nothing_still_finds_what_is_there(two: Path) -> None:
    with pytest.raises(ArtifactError, match="continue it with --resume"):
        Checkpoints(two, RECIPE, every=0).begin({"processes": 1})
    made = Checkpoints(two, RECIPE, every=0, resume=True)
    found = made.begin({"processes": 1})
    assert found is not None and found.values["steps"] == 6
    assert not any(map(made.due, range(12)))
    with pytest.raises(UsageError, match="save_every"):
        Checkpoints(two, RECIPE, every=-1)


def test_of_keys_that_change_nothing_other_values_go_on(two: Path) -> None:
    """Those that an older snapshot knew as the run's own, too."""
    other = {**RECIPE, "batch": 9}
    how: dict[str, Any] = {"every": 2, "resume": True, "free": frozenset({"batch", "workers"})}
    assert Checkpoints(two, {**other, "workers": 2}, **how).begin({"processes": 1}) is not None
    with pytest.raises(UsageError, match=r"another run: lr was 0\.1 and is 0\.2; continue"):
        Checkpoints(two, {**other, "lr": 0.2}, **how).begin({"processes": 1})


def test_nothing_is_unpickled(two: Path) -> None:
    """A file that is no safetensors is never given to anything else."""
    save_file({"w": torch.ones(1)}, two / "plain.safetensors")
    (two / "step-000000009.pt").write_bytes(b"\x80\x04.")
    assert resumed(two)[0].values["steps"] == 6


def draws() -> tuple[float, ...]:
    normal = float(np.random.normal())
    return (torch.rand(()).item(), normal, random.random(), random.gauss(0, 1))


def test_random_numbers_go_on_from_where_they_were() -> None:
    draws()  # an odd number of normal ones: half a pair is remembered
    state = json.loads(json.dumps(random_state()))
    expected = [draws() for _ in range(3)]
    set_random_state(state)
    with undisturbed():
        draws()
    assert [draws() for _ in range(3)] == expected
