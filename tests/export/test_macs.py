"""What the manifest tells of a graph's work, which `bench --profile` holds its time to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blip_edge.artifact import read_json
from blip_edge.models import load_model
from blip_edge.models.cost import stage_costs

pytest.importorskip("coremltools")


def test_only_the_picture_has_work_that_is_known_beforehand(
    folder: Path, exported: Callable[..., Path]
) -> None:
    bundle = exported(folder, "coreml", precision="fp16")
    graphs = read_json(bundle / "manifest.json")["graphs"]
    work = {name: graph["macs"] for name, graph in graphs.items()}
    assert work.pop("vision") == stage_costs(load_model(folder).config)["vision"].macs > 0
    assert set(work.values()) == {None}
