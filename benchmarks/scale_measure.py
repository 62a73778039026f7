"""What the sums of pre-training at BLIP's scale rest on, measured on a processor.

    python benchmarks/scale_measure.py     # -> benchmarks/results/scale.json

Of both sizes of the network, as train/pretrain-129m-*.toml describe them: how many parameters, and
how many bytes a pair leaves behind for the backward pass. Of data: what a row of a folder costs in
memory, and how many pairs a second one core makes ready. The sums are in scale.py.
"""

import io
import json
import random
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils._pytree import tree_flatten
from torch.utils.checkpoint import checkpoint

from blip_edge.artifact import write_json
from blip_edge.benchmarks.machine import machine
from blip_edge.data import Dataset
from blip_edge.models import (
    Blip,
    BlipConfig,
    TextConfig,
    VisionConfig,
    build,
    count_parameters,
)
from blip_edge.preprocess import Preprocess
from blip_edge.recipe import load
from blip_edge.text import Tokenizer
from blip_edge.training import TrainRecipe
from blip_edge.training.augment import Augmentation
from blip_edge.training.batches import Batch, CaptionBatches
from blip_edge.training.objectives import PretrainObjective
from blip_edge.training.recompute import recomputing

RECORD = Path(__file__).resolve().parent / "results" / "scale.json"
SIZES = ("base", "large")
TOKENS = 30
ROWS, PICTURES, SIDES = 50_000, 400, (384, 288)
WORDS = ("a", "small", "red", "dog", "that", "sits", "on", "grass", "beside", "two", "people")


def recipe_of(size: str) -> TrainRecipe:
    """The recipe of pre-training on 129M pictures."""
    return load(TrainRecipe, "train", f"pretrain-129m-{size}")


def config_of(recipe: TrainRecipe) -> BlipConfig:
    """The network that a recipe begins with when both towers are pretrained."""
    vision = VisionConfig(
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        hidden_size=recipe.vision_width,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=recipe.vision_heads,
        intermediate_size=4 * recipe.vision_width,
        drop_path_rate=recipe.drop_path,
    )
    text = TextConfig(
        hidden_size=recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=recipe.text_heads,
        intermediate_size=4 * recipe.text_width,
        encoder_hidden_size=recipe.vision_width,
        hidden_dropout_prob=recipe.dropout,
        attention_probs_dropout_prob=recipe.dropout,
    )
    return BlipConfig(
        vision_config=vision,
        text_config=text,
        architecture="BlipForPreTraining",
        image_text_hidden_size=recipe.embed_dim,
    )


def parameters(config: BlipConfig) -> dict[str, int]:
    """How many are trained, and how many the slow copies have; nothing is allocated."""
    with torch.device("meta"):
        blip = build(config)
    slow = (blip.vision_model, blip.encoder, blip.vision_proj, blip.text_proj)
    return {"trained": count_parameters(blip), "slow": sum(map(count_parameters, slow))}


class Marks:
    """The two tokens that the objective asks a vocabulary for."""

    dec, enc = 30522, 30523


def kept_bytes(recipe: TrainRecipe, *, forget: bool) -> int:
    """Bytes that one more pair keeps until the backward pass, under bfloat16 autocast.

    Attention is the fused kernel's, as on a GPU; with `forget` layers keep their inputs alone. A
    layer costs what the one before it costs, so networks of a few layers are enough; not of one,
    because stochastic depth spares the first.
    """
    few = [
        (replace(recipe, vision_layers=v, text_layers=t), forget)
        for v, t in ((2, 1), (3, 1), (2, 2))
    ]
    # A process each: what one has freed is not always given back to the machine.
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        least, image, text = pool.starmap(_of_a_pair, few, chunksize=1)
    more = (recipe.vision_layers - 2) * (image - least) + (recipe.text_layers - 1) * (text - least)
    return least + more


def _of_a_pair(recipe: TrainRecipe, forget: bool) -> int:
    torch.manual_seed(0)
    with torch.device("meta"):
        blip = build(config_of(recipe)).train()
    blip.to_empty(device="cpu")
    for parameter in blip.parameters():
        torch.nn.init.constant_(parameter, 0.01)  # drawing them would take longer than all else
    objective = PretrainObjective(blip, Marks(), recipe)  # type: ignore[arg-type]
    few, more = (_kept(blip, objective, recipe, pairs, forget) for pairs in (2, 3))
    return more - few


def _kept(
    blip: Blip, objective: PretrainObjective, recipe: TrainRecipe, pairs: int, forget: bool
) -> int:
    ids = torch.randint(1000, 30000, (pairs, TOKENS))
    pixels = torch.randn(pairs, 3, recipe.image_size, recipe.image_size)
    batch = Batch(pixels, ids, torch.ones_like(ids), torch.arange(pairs))
    own = {p.untyped_storage().data_ptr() for p in blip.parameters()}
    held: dict[int, int] = {}
    alive: list[Tensor] = []  # or else an address is given out again, and counted once

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    with (
        patch("blip_edge.models.vit.attend", _fused),
        patch("blip_edge.models.attention.attend", _fused),
        patch("blip_edge.training.recompute.checkpoint", _seen(keep)),
        recomputing(blip, on=forget),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16),
    ):
        losses = objective(batch, 0)
    del losses
    return sum(held.values())


def _fused(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Attention as it is off the processor, where bfloat16 has a path of its own."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


def _seen(keep: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """What layers that forget are given is kept, though not by the saved tensors' hooks."""

    def noticed(forward: Any, *args: Any, **how: Any) -> Any:
        for tensor in tree_flatten(args)[0]:
            if isinstance(tensor, Tensor):
                keep(tensor)
        return checkpoint(forward, *args, **how)

    return noticed


def _caption(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=12))


def _folder(root: Path, names: list[str]) -> Dataset:
    draw = random.Random(0)
    rows = [{"image": name, "caption": _caption(draw), "image_id": name} for name in names]
    (root / "dataset.json").write_text('{"name": "rows", "version": "1", "license": "none"}')
    (root / "caption_train.json").write_text(json.dumps(rows))
    return Dataset.open(root)


def _words() -> Tokenizer:
    return Tokenizer.train([" ".join(WORDS)], 100)


def row_bytes(root: Path) -> dict[str, int]:
    """Memory of a row of a folder: while all are read, and as long as the run goes on."""
    names = [f"cc12m/{n // 10000:05d}/{n:09d}.jpg" for n in range(ROWS)]
    data, words = _folder(root, names), _words()
    tracemalloc.start()
    batches = CaptionBatches(
        *(data, data.captions("train"), words, Preprocess(size=224)), batch=8, seed=0
    )
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert batches.per_epoch == ROWS // 8
    return {"kept": now // ROWS, "peak": peak // ROWS}


def ready_per_core(root: Path) -> dict[str, float]:
    """Pairs a core makes ready a second: read, decoded, cropped, changed, normalised, tokenised."""
    noise, sizes = np.random.default_rng(0), []
    (root / "images").mkdir()
    for number in range(PICTURES):
        coarse = Image.fromarray(noise.integers(0, 256, (36, 48, 3), dtype=np.uint8))
        picture = coarse.resize(SIDES, Image.Resampling.BICUBIC).filter(ImageFilter.SHARPEN)
        buffer = io.BytesIO()
        picture.save(buffer, "jpeg", quality=90)
        (root / "images" / f"{number}.jpg").write_bytes(buffer.getvalue())
        sizes.append(len(buffer.getvalue()))
    data = _folder(root, [f"{number}.jpg" for number in range(PICTURES)])
    change = Augmentation(min_scale=0.2, flip=0.5, ops=2, level=5)
    batches = CaptionBatches(
        *(data, data.captions("train"), _words(), Preprocess(size=224)),
        batch=20,
        seed=0,
        augmentation=change,
    )
    stream = batches.placed()
    next(stream)
    begun = time.process_time()
    made = sum(next(stream)[1].rows for _ in range(batches.per_epoch - 1))
    spent = time.process_time() - begun
    return {"pairs_per_s": round(made / spent, 1), "file_bytes": sum(sizes) // len(sizes)}


def main() -> None:
    """Measure all, and write the record."""
    torch.set_num_threads(1)
    sizes = {}
    for size in SIZES:
        recipe = recipe_of(size)
        kept = {
            name: kept_bytes(recipe, forget=name == "recomputed") for name in ("all", "recomputed")
        }
        sizes[size] = {"parameters": parameters(config_of(recipe)), "kept_bytes": kept}
        print(size, sizes[size])
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        record = {
            "settings": {"tokens": TOKENS, "rows": ROWS, "pictures": PICTURES, "sides": SIDES},
            "machine": machine().to_json(),
            "sizes": sizes,
            "row_bytes": row_bytes(Path(first)),
            "ready": ready_per_core(Path(second)),
        }
    write_json(RECORD, record)
    print(record["row_bytes"], record["ready"])


if __name__ == "__main__":
    main()
