"""Parts of towers as graphs of the engine: what they yield, and what takes longer."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from blip_edge.distill.engine_layers import (
    Attention,
    FeedForward,
    Layer,
    Linear,
    Look,
    model_of,
)
from blip_edge.distill.stopwatch import seconds_of

LAYERS: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "linear": (Linear(7, 16, 24), (7, 24)),
    "neurons": (FeedForward(7, 16, 40), (7, 16)),
    "tower": (Attention(1, 7, 16, 3, 8, 7), (1, 7, 16)),
    "step": (Attention(2, 1, 16, 3, 8, 20), (2, 1, 16)),
    "look": (Look(2, 1, 16, 3, 8, 9), (2, 1, 16)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_runs_and_yields_what_the_next_one_reads(name: str) -> None:
    layer, shape = LAYERS[name]
    model, feeds = model_of(layer)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, feeds)
    assert found.shape == shape
    assert np.isfinite(found).all()


def test_the_activation_is_joined_as_in_exported_graphs(tmp_path: Any) -> None:
    model, _ = model_of(FeedForward(7, 16, 40))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "Erf" not in kinds


def test_what_is_larger_takes_longer() -> None:
    assert seconds_of(FeedForward(256, 256, 1024)) > 3 * seconds_of(FeedForward(256, 256, 64))
    small, large = Attention(1, 64, 64, 2, 32, 64), Attention(1, 256, 256, 8, 32, 256)
    assert seconds_of(large) > 3 * seconds_of(small)
