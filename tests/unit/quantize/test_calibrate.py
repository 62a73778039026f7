"""What the layers are shown: the pictures that were asked for, and the search's own activations."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.models import Model
from blip_edge.models.quantized import quantizable_layers
from blip_edge.quantize.calibrate import calibrate, decode, pick, replay
from blip_edge.quantize.extremes import MinMax
from blip_edge.training.engine import edge_model

FC2 = "vision_model.encoder.layers.1.mlp.fc2"
QUERY = "text_decoder.bert.encoder.layer.0.attention.self.query"
KEY = "text_decoder.bert.encoder.layer.1.crossattention.self.key"
# One pass instead of cached steps: float32 sums in another order.
assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


def test_pictures_are_different_train_pictures_chosen_by_the_seed(
    data: Path, captioner: Model
) -> None:
    dataset, preprocess = Dataset.open(data), captioner.preprocess
    train = {preprocess.to_uint8(path).tobytes() for path in data.glob("images/train/*.png")}
    few = pick(dataset, preprocess, samples=5, seed=1)
    assert few.shape == (5, 16, 16, 3) and few.dtype == np.uint8
    assert len({picture.tobytes() for picture in few} & train) == 5
    assert np.array_equal(few, pick(dataset, preprocess, samples=5, seed=1))
    assert not np.array_equal(few, pick(dataset, preprocess, samples=5, seed=2))
    assert len(pick(dataset, preprocess, samples=100, seed=1)) == 12, "all there are, once"


def test_a_damaged_picture_is_replaced_and_too_many_stop(data: Path, captioner: Model) -> None:
    dataset, preprocess = Dataset.open(data), captioner.preprocess
    (data / "images/train/3.png").write_bytes(b"not a picture")
    assert len(pick(dataset, preprocess, samples=11, seed=0, max_bad=0.1)) == 11
    with pytest.raises(ArtifactError, match=r"3\.png"):
        pick(dataset, preprocess, samples=12, seed=0, max_bad=0.05)


def test_every_picture_is_shown_once_with_what_the_model_says_of_it(
    data: Path, captioner: Model
) -> None:
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=12, seed=0)
    seen = decode(captioner, pixels, batch=5)
    assert sum(len(part.pixels) for part in seen) == 12
    assert all(len(part.pixels) == len(part.input_ids) <= 5 for part in seen)
    assert len({part.input_ids.shape[1] for part in seen}) > 1, "the fixture's lengths differ"
    greedy = captioner.generation.override(beams=1)
    for part in seen:
        said = edge_model(captioner).caption_pixels(
            captioner.preprocess.normalise(part.pixels), greedy
        )
        assert part.input_ids.tolist() == [list(caption.token_ids[:-1]) for caption in said]


def note(watch: MinMax, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    watch.see(inputs[0])


@torch.no_grad()
def test_one_pass_shows_the_activations_of_the_search(data: Path, captioner: Model) -> None:
    """Every value that a layer reads while captions are searched for lies in its range."""
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=1, seed=0)
    spans = calibrate(captioner, decode(captioner, pixels, batch=1), MinMax)
    watches = {path: MinMax() for path in spans}
    for path, watch in watches.items():
        captioner.blip.get_submodule(path).register_forward_pre_hook(partial(note, watch))
    greedy = captioner.generation.override(beams=1)
    edge_model(captioner).caption_pixels(captioner.preprocess.normalise(pixels), greedy)
    for path, watch in watches.items():
        span, want = spans[path], watch.span()
        assert span is not None and want is not None
        assert_close(torch.tensor(span), torch.tensor(want))


def test_batches_change_nothing_and_no_hook_stays(data: Path, captioner: Model) -> None:
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=6, seed=0)
    one, other = (
        calibrate(captioner, decode(captioner, pixels, batch=batch), MinMax) for batch in (1, 6)
    )
    assert set(one) == set(other) == set(quantizable_layers(captioner.blip))
    for path in one:
        assert_close(torch.tensor(one[path]), torch.tensor(other[path]))
    assert not any(m._forward_hooks for m in captioner.blip.modules())


def test_looks_get_inputs_and_outputs_by_path(data: Path, captioner: Model) -> None:
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=4, seed=0)
    seen = decode(captioner, pixels, batch=4)
    shapes: dict[str, list[tuple[int, ...]]] = {FC2: [], QUERY: [], KEY: []}

    def look(path: str, x: Tensor, y: Tensor) -> None:
        shapes[path] += [x.shape, y.shape]

    replay(captioner, seen, {path: partial(look, path) for path in shapes})
    tokens = [part.input_ids.shape for part in seen]
    assert shapes[FC2] == [(b, 5, w) for b, _ in tokens for w in (64, 32)]
    assert shapes[QUERY] == [(b, t, 32) for b, t in tokens for _ in "xy"]
    assert shapes[KEY] == [(b, 5, 32) for b, _ in tokens for _ in "xy"]


def test_a_model_whose_activations_overflow_is_named(data: Path, captioner: Model) -> None:
    pixels = pick(Dataset.open(data), captioner.preprocess, samples=2, seed=0)
    seen = decode(captioner, pixels, batch=2)
    nn.init.constant_(quantizable_layers(captioner.blip)[FC2.replace("fc2", "fc1")].weight, 1e38)
    with pytest.raises(ArtifactError, match=r"layers\.1\.mlp\.fc2"):
        calibrate(captioner, seen, MinMax)
