"""What `inspect` says of a folder, in lines."""

from typing import Any

import pytest

from blip_edge.cli.tell import tell

GRAPH: dict[str, Any] = {"file": "matcher.mlpackage", "bytes": 1_000_000, "ops": None}


def bundle(**changes: Any) -> dict[str, Any]:
    graphs = {"text": GRAPH, "itm": GRAPH, "vision": GRAPH | {"file": "vision.mlpackage"}}
    return {
        "kind": "bundle",
        "folder": "runs/matcher",
        "target": "coreml",
        "precision": "fp16",
        "graphs": graphs,
        "latency": [],
        **changes,
    }


def test_a_file_that_graphs_share_is_weighed_once() -> None:
    told = tell(bundle())
    assert told.count("1 MB") == 2
    assert "matcher.mlpackage, the same" in told


@pytest.mark.parametrize(
    ("task", "words"),
    [("retrieval", "2.0 ms a match"), ("vqa", "2.0 ms an answer"), (None, "2.0 ms a caption")],
)
def test_a_latency_says_of_what(task: str | None, words: str) -> None:
    """A record from before tasks were told is of captions."""
    settings = {} if task is None else {"task": task}
    assert words in tell(bundle(latency=[{"p50_ms": 2.0, "settings": settings}]))
