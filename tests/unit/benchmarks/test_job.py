"""Whatever a device tells is kept, or refused in a line; it may be anybody's browser."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blip_edge.benchmarks.job import Job, Measured
from blip_edge.benchmarks.records import BenchRecipe
from blip_edge.errors import ArtifactError, BlipEdgeError, MissingExtraError
from blip_edge.runtime.asked import Asked

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
OPERATOR = {
    "graph": "vision",
    "name": "m",
    "type": "MatMul",
    "calls": 2,
    "ms": 1.5,
    "share": 0.5,
    "where": "CPU",
}
NAMES = (
    "bundle",
    "operators",
    "samples",
    "load_ms",
    "first_ms",
    "device",
    "threads",
    "others",
    "note",
    "error",
)


def test_a_story_becomes_what_was_measured() -> None:
    measured = Measured(bundles=2)
    for event in (
        {"device": {"cpu": "A76"}, "threads": 4},
        {"bundle": 1, "load_ms": 5.0, "first_ms": 2},
        {"bundle": 1, "samples": [{"total_ms": 1.5, "steps": 3}]},
        {"bundle": 1, "captions": ["a red square"]},
        {"bundle": 0, "note": "simulated"},
        {"others": 0.5, "gemm_slowdown": None},
        {"bundle": 1, "operators": [OPERATOR | {"more": "than asked"}]},
        {"bundle": 1, "joules": 2.5},
        {"bundle": 1, "peak_memory_bytes": 12},
    ):
        measured.hear(event)
    assert not measured.complete
    measured.hear({"done": True})
    assert measured.complete
    assert (measured.device, measured.threads, measured.others) == ({"cpu": "A76"}, 4, 0.5)
    first, second = measured.timed
    assert (first.samples, first.notes) == ([], ["simulated"])
    assert second.samples == [{"total_ms": 1.5, "steps": 3}]
    assert (second.load_ms, second.first_ms) == ([5.0], [2])
    assert (second.operators, second.joules) == ([OPERATOR], 2.5)
    assert (second.captions, second.peak_memory_bytes) == (["a red square"], 12)


@pytest.mark.parametrize(
    "event",
    [
        {"bundle": 5, "note": "there is no such bundle"},
        {"bundle": 0, "samples": [{"total_ms": float("nan")}]},
        {"bundle": 0, "samples": [{"total_ms": "fast"}]},
        {"bundle": 0, "samples": 3},
        {"bundle": 0, "operators": [{"graph": "vision"}]},
        {"bundle": 0, "operators": [OPERATOR | {"ms": float("inf")}]},
        {"bundle": 0},
        {"device": 7},
        {},
    ],
)
def test_nonsense_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match="no event"):
        Measured(bundles=1).hear(event)


# The first example takes a second on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_no_event_of_whatever_form_is_a_bug_of_ours(event: dict[str, Any]) -> None:
    measured = Measured(bundles=1)
    try:
        measured.hear(event)
    except BlipEdgeError:
        return
    json.dumps([timed.samples for timed in measured.timed], allow_nan=False)


def test_a_devices_failure_comes_back_as_it_was() -> None:
    cause = {"error": {"exit_code": 4, "message": "openvino is not installed"}}
    with pytest.raises(MissingExtraError, match="openvino is not installed"):
        Measured(bundles=1).hear(cause)
    with pytest.raises(BlipEdgeError, match="did not say how"):
        Measured(bundles=1).hear({"error": "no"})


def test_a_job_travels_as_json(tmp_path: Path) -> None:
    job = Job(
        bundles=(Path("bundles/0"),),
        task="nlvr2",
        asked=(Asked((Path("pictures/0.png"), Path("pictures/1.png")), ("one is red",)),),
        recipe=BenchRecipe(runs=3),
        threads=2,
    )
    there = Job.from_json(json.loads(json.dumps(job.to_json())), tmp_path)
    assert there.bundles == (tmp_path / "bundles/0",)
    assert there.task == "nlvr2"
    [asked] = there.asked
    assert asked.images == (tmp_path / "pictures/0.png", tmp_path / "pictures/1.png")
    assert asked.texts == ("one is red",)
    assert (there.recipe, there.threads) == (job.recipe, 2)


@pytest.mark.parametrize(("bundles", "said"), [(1, "1 bundle"), (2, "2 bundles")])
def test_one_bundle_is_told_in_the_singular(bundles: int, said: str) -> None:
    paths = tuple(Path(str(number)) for number in range(bundles))
    assert Job(bundles=paths, asked=(), recipe=BenchRecipe()).counted() == said
