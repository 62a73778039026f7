"""The engines' profiles: what is added up, and that both engines tell of the graphs that ran."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blip_edge.artifact import read_json, write_json
from blip_edge.benchmarks import BenchRecipe, bench, protocol
from blip_edge.benchmarks.machine import Machine
from blip_edge.benchmarks.operators import Call, profile, summed
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.load import load
from blip_edge.runtime.sums import write_sums
from tests.unit.benchmarks.toy_bundle import write_toy

pytest.importorskip("onnx")

calls = st.lists(
    st.builds(
        Call,
        name=st.sampled_from("abc"),
        type=st.sampled_from(["MatMul", "Add"]),
        ms=st.floats(0.001, 10),
        where=st.just("CPU"),
    ),
    min_size=1,
    max_size=12,
)


@given(calls)
def test_nothing_is_lost_and_the_slowest_is_first(made: list[Call]) -> None:
    rows = summed("vision", made, top=99)
    assert sum(row["calls"] for row in rows) == len(made)
    assert sum(row["ms"] for row in rows) == pytest.approx(sum(call.ms for call in made), abs=1e-3)
    assert sum(row["share"] for row in rows) == pytest.approx(1, abs=1e-3)
    assert [row["ms"] for row in rows] == sorted((row["ms"] for row in rows), reverse=True)
    assert summed("vision", made, top=2) == rows[:2]  # a share is of all of them, not of the top


def test_a_graph_that_did_not_run_has_no_operators() -> None:
    assert summed("itm", []) == []
    assert summed("vision", [Call("a", "Add", 0.0, "CPU")])[0]["share"] == 0


@pytest.fixture
def toys(tmp_path: Path) -> dict[str, Path]:
    """The same toy graphs for both engines: OpenVINO reads ONNX files too."""
    onnx, openvino = write_toy(tmp_path / "onnx"), write_toy(tmp_path / "openvino")
    manifest = read_json(openvino / "manifest.json")
    write_json(openvino / "manifest.json", manifest | {"target": "openvino"})
    write_sums(openvino)
    return {"onnx": onnx, "openvino": openvino}


@pytest.mark.parametrize("target", ["onnx", "openvino"])
def test_an_engine_tells_of_every_graph_and_says_the_same(
    toys: dict[str, Path], target: str
) -> None:
    if target == "openvino":
        pytest.importorskip("openvino")
    bundle = toys[target]
    images = [str(bundle / "golden" / name) for name in ("a.png", "b.png")]
    model: Any = load(bundle, threads=1)
    before = [load(bundle, threads=1).caption(image) for image in images]
    rows = profile(model, bundle, "caption", [Asked((image,)) for image in images])
    assert rows is not None
    assert {row["graph"] for row in rows} == {"vision", "decoder"}
    assert {row["where"] for row in rows} == {"CPU"}
    assert any("MatMul" in row["type"] or "FullyConnected" in row["type"] for row in rows)
    # Three captions ran the image tower, and its first run is left out.
    assert {row["calls"] for row in rows if row["graph"] == "vision"} == {2}
    assert max(row["calls"] for row in rows if row["graph"] == "decoder") > 2
    for graph in ("vision", "decoder"):
        assert 0.5 < sum(row["share"] for row in rows if row["graph"] == graph) < 1.001
    assert [model.caption(image) for image in images] == before


def test_a_model_without_an_engine_tells_nothing(toys: dict[str, Path]) -> None:
    class Mute:
        def caption(self, image: Any) -> Any: ...

    assert profile(Mute(), toys["onnx"], "caption", [Asked(("a.png",))]) is None


def test_a_record_has_them(toys: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    # Measuring the machine takes two seconds, and is tested elsewhere.
    cool = Machine(
        cpu="cpu", arch="a", isa=(), cores=2, memory_bytes=1, os="o", python="3",
    )  # fmt: skip
    monkeypatch.setattr(protocol, "machine", lambda measure: cool)
    recipe = BenchRecipe(runs=2, warmup=0, seconds=0.0, burst=2, loads=1)
    [record] = bench([toys["onnx"]], recipe=recipe, threads=1, profile=True)
    assert record["operators"]
    assert record["notes"] == [note for note in record["notes"] if "operators" not in note]
    assert len(record["samples"]["total_ms"]) == 2
