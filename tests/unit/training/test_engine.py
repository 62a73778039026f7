"""torch under the runtime's search: batched results equal single ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blip_edge.data import Dataset
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models import Model, save_model
from blip_edge.training.engine import TorchEngine, edge_model, open_model

CLOSE = 1e-5  # float32, and sums in another order


def test_captions_of_a_list_are_those_of_each_picture(world: Dataset, captioner: Model) -> None:
    model = edge_model(captioner)
    paths = [world.image_path(row.image) for row in world.captions("test")]
    together = model.caption(paths)
    for path, caption in zip(paths, together, strict=True):
        alone = model.caption(path)
        assert (alone.text, alone.token_ids) == (caption.text, caption.token_ids)
        assert alone.score == pytest.approx(caption.score, abs=CLOSE)
    assert len({caption.score for caption in together}) > 1, "it does not look at the pictures"


@torch.no_grad()
def test_steps_give_the_logits_of_one_pass(captioner: Model) -> None:
    engine = TorchEngine(captioner.blip)
    pixels = np.random.default_rng(0).normal(size=(2, 3, 24, 24)).astype(np.float32)
    ids = np.array([[5, 6, 7], [8, 9, 10]], dtype=np.int32)
    order = np.arange(2, dtype=np.int32)
    session = engine.start(engine.encode(pixels), 2)
    steps = [session.step(ids[:, :2], order), session.step(ids[:, 2:], order)]
    tokens = captioner.blip.vision_model(torch.from_numpy(pixels))
    whole = captioner.blip.lm_logits(torch.from_numpy(ids).long(), tokens).numpy()
    np.testing.assert_allclose(np.stack(steps, 1), whole[:, 1:], rtol=CLOSE, atol=CLOSE)


def test_a_beam_takes_its_past_along(captioner: Model) -> None:
    """Rows that swap places must swap their caches: else beam search mixes sentences."""
    engine = TorchEngine(captioner.blip)
    cross = engine.encode(np.ones((1, 3, 24, 24), dtype=np.float32))
    ids = np.array([[5, 6], [8, 9]], dtype=np.int32)
    following = np.array([[7], [7]], dtype=np.int32)
    logits = []
    for order in ([0, 1], [1, 0], [0, 0]):
        session = engine.start(cross, 2)
        session.step(ids, np.arange(2, dtype=np.int32))
        logits.append(session.step(following, np.array(order, dtype=np.int32)))
    np.testing.assert_allclose(logits[1], logits[0][::-1], rtol=CLOSE, atol=CLOSE)
    np.testing.assert_allclose(logits[2], logits[0][[0, 0]], rtol=CLOSE, atol=CLOSE)
    assert np.abs(logits[0][0] - logits[0][1]).max() > 1e-3


def test_a_caption_longer_than_the_model_can_hold_is_refused(captioner: Model) -> None:
    picture = Image.new("RGB", (24, 24))
    with pytest.raises(UsageError, match="holds 48 tokens; ask for a smaller max_length"):
        edge_model(captioner).caption(picture, beams=1, min_length=60, max_length=60)


def test_a_folder_opens_and_a_missing_one_is_named(captioner: Model, tmp_path: Path) -> None:
    save_model(tmp_path, captioner)
    picture = Image.new("RGB", (24, 24), (90, 20, 200))
    assert open_model(tmp_path).caption(picture) == edge_model(captioner).caption(picture)
    with pytest.raises(ArtifactError, match="gone is not a folder"):
        open_model(tmp_path / "gone")
