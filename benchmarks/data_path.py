"""How many samples a second the data path delivers a core, and how many a training step takes.

    python benchmarks/data_path.py -o benchmarks/results/data-path.json [--rounds 5] [--sizes 224]

Both sides have one thread. The path is that of `train`: files or WebDataset tars, decoding, BLIP's
random crop, flip and RandomAugment, normalising, words to ids, batches of eight. The pictures are
drawn, JPEGs of 640 x 480; none is kept between epochs. The step is one of BLIP base as a captioner
with random weights: forward, backward, AdamW. They take turns in one process, so that a noisy
neighbour falls on both. Rates are by the processor's time, as on a core of their own; the clock's
are in the record too.
"""

import argparse
import io
import itertools
import json
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from blip_edge.artifact import write_json
from blip_edge.benchmarks.machine import machine
from blip_edge.benchmarks.stats import ratio, summarise
from blip_edge.data.dataset import Dataset
from blip_edge.data.shards import Shards, count_samples
from blip_edge.models import build
from blip_edge.models.presets import preset
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer
from blip_edge.training import TrainRecipe
from blip_edge.training.augment import Augmentation
from blip_edge.training.batches import Batch, CaptionBatches, Web
from blip_edge.training.objectives import CaptionObjective

BATCH, TOKENS, GOAL = 8, 20, 5.0
STEP_BATCH = {224: 8, 384: 2}  # eight pictures of 384 pixels want 8 GB to be learned from
PICTURES, BATCHES = 64, 4
WIDTH, HEIGHT, QUALITY = 640, 480, 90
CAPTION = "a picture of some ellipses of many colours on a ground that changes its colour slowly"
AUGMENTATION = Augmentation(min_scale=0.5, flip=0.5, ops=2, level=5)

Source = Iterator[Batch]


def drawn(number: int) -> bytes:
    """A JPEG of smooth colours with thirty ellipses."""
    draw = np.random.default_rng(number)
    down, right = np.mgrid[0:HEIGHT, 0:WIDTH]
    slopes = draw.uniform(0.05, 0.2, (3, 2))
    ground = np.stack([right * a + down * b + 20 for a, b in slopes], axis=-1)
    image = Image.fromarray(ground.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(30):
        left, top = int(draw.integers(WIDTH - 40)), int(draw.integers(HEIGHT - 40))
        wide, high = (int(side) for side in draw.integers(10, 200, 2))
        colour = (int(draw.integers(256)), int(draw.integers(256)), int(draw.integers(256)))
        pen.ellipse([left, top, left + wide, top + high], fill=colour)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def write_pictures(folder: Path) -> int:
    """The same pictures as DATA in `folder` and as a tar beside its images; bytes of a picture."""
    files = {f"{number:06}.jpg": drawn(number) for number in range(PICTURES)}
    (folder / "images").mkdir()
    rows = [{"image": name, "caption": CAPTION, "image_id": name} for name in files]
    write_json(folder / "dataset.json", {"name": "drawn", "version": "1", "license": "CC0-1.0"})
    write_json(folder / "caption_train.json", rows)
    with tarfile.open(folder / "drawn.tar", "w") as archive:
        for name, data in files.items():
            (folder / "images" / name).write_bytes(data)
            words = json.dumps({"caption": CAPTION}).encode()
            for member, content in ((name, data), (name.replace("jpg", "json"), words)):
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return sum(map(len, files.values())) // len(files)


def from_folder(folder: Path, words: Tokenizer, size: int) -> Source:
    """Batches of the files."""
    data = Dataset.open(folder)
    how = {"batch": BATCH, "seed": 0, "augmentation": AUGMENTATION}
    found = CaptionBatches(data, data.captions("train"), words, Preprocess(size=size), **how)
    found._pictures._free = 0  # as of a data set that is larger than what is kept
    return iter(found)


def from_tars(folder: Path, words: Tokenizer, size: int) -> Source:
    """Batches of the tar."""
    shards = Shards.open([folder / "drawn.tar"], seed=0)
    web = Web(shards, {path: count_samples(path) for path in shards.paths})
    how = {"batch": BATCH, "seed": 0, "augmentation": AUGMENTATION}
    return iter(CaptionBatches(None, [], words, Preprocess(size=size), web=web, **how))


def training(words: Tokenizer, size: int) -> Callable[[], None]:
    """One step of BLIP base on random pictures."""
    torch.manual_seed(0)
    blip = build(preset("base", image_size=size)).train()
    objective = CaptionObjective(blip, words, TrainRecipe(prompt=""))
    rows = STEP_BATCH[size]
    pixels = torch.randn(rows, 3, size, size)
    ids = torch.randint(0, words.vocab_size, (rows, TOKENS))
    batch = Batch(pixels, ids, torch.ones_like(ids), torch.arange(rows))
    optimiser = torch.optim.AdamW(blip.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        objective(batch, 0)["lm"].backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds by the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def run(sizes: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """All sizes one after the other."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        picture_bytes = write_pictures(folder)
        words = Tokenizer.train([CAPTION], 100)
        measured = {str(size): at_size(folder, words, size, rounds) for size in sizes}
    return {
        "settings": {
            "model": "BLIP base, captioning",
            "pictures": f"JPEG, {WIDTH} x {HEIGHT}, quality {QUALITY}",
            "picture_bytes": picture_bytes,
            "batch": BATCH,
            "batches": BATCHES,
            "step_batch": {str(size): STEP_BATCH[size] for size in sizes},
            "threads": 1,
            "rounds": rounds,
            "goal": GOAL,
        },
        "sizes": measured,
        "machine": machine().to_json(),
    }


def at_size(folder: Path, words: Tokenizer, size: int, rounds: int) -> dict[str, Any]:
    """Folder, tars and training in turns, milliseconds a sample."""
    step = training(words, size)
    sources = {"folder": from_folder(folder, words, size), "tars": from_tars(folder, words, size)}
    times: dict[str, list[tuple[float, float]]] = {"folder": [], "tars": [], "training": []}
    for source in sources.values():
        next(source)  # shards fill what they shuffle
    step()
    for number in range(rounds):
        for name, source in sources.items():
            found = timed(partial(list, itertools.islice(source, BATCHES)))
            times[name].append((found[0] / (BATCHES * BATCH), found[1] / (BATCHES * BATCH)))
        found = timed(step)
        times["training"].append((found[0] / STEP_BATCH[size], found[1] / STEP_BATCH[size]))
        print(f"{size} px, round {number + 1}", file=sys.stderr)
    return {name: _row(rows, times["training"]) for name, rows in times.items()}


def _row(rows: list[tuple[float, float]], training: list[tuple[float, float]]) -> dict[str, Any]:
    wall, cpu = zip(*rows, strict=True)
    faster = ratio(cpu, [row[1] for row in training])
    return {
        "samples_per_core_s": round(1e3 / float(np.median(cpu)), 3),
        "times": {"times": faster.ratio, "low": faster.low, "high": faster.high},
        "cpu": summarise(cpu).to_json(),
        "wall": summarise(wall).to_json(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", choices=STEP_BATCH, default=[*STEP_BATCH])
    given = parser.parse_args()
    record = run(tuple(given.sizes), given.rounds)
    if given.output is not None:
        write_json(given.output, record)
    for size, rows in record["sizes"].items():
        for name, row in rows.items():
            rate, times = row["samples_per_core_s"], row["times"]["times"]
            print(f"{size} px {name:9} {rate:9.2f} samples/s a core  {times:.1f}x")


if __name__ == "__main__":
    main()
