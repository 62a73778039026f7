"""The memory and time of optimisation steps of BLIP base, beside what `inspect --memory` says.

    python benchmarks/pretrain_step.py -o benchmarks/results/pretrain-step.json [--only NAME]

Real sizes, random weights, pictures and words, the longest texts that the task keeps, and the very
loop that `train` runs. Every configuration has a process of its own, one after another, so that its
peak of resident memory is its own: that of the whole process, Python and torch included. There must
be at least two steps, because AdamW has its state from the first step's end on. With --only the
others stay as they are in the output.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blip_edge.artifact import write_json
from blip_edge.benchmarks.machine import machine
from blip_edge.benchmarks.stats import summarise

SIZE, THREADS, WORDS = 224, 2, 30524
GOAL_BYTES, GOAL_SHARE = 16e9, 0.15
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain-recompute": (
        "pre-training, batch 2, recompute",
        {"task": "pretrain", "batch": 2, "recompute": True},
    ),
    "pretrain": ("pre-training, batch 2", {"task": "pretrain", "batch": 2}),
    "caption": ("captioning, batch 8", {"task": "caption", "batch": 8}),
    "caption-recompute": (
        "captioning, batch 8, recompute",
        {"task": "caption", "batch": 8, "recompute": True},
    ),
    "caption-bf16": (
        "captioning, batch 8, bf16",
        {"task": "caption", "batch": 8, "precision": "bf16"},
    ),
}


def peak_bytes() -> int:
    """The highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(name: str, steps: int) -> dict[str, Any]:
    """What a configuration's steps take, in a fresh process."""
    import torch

    from blip_edge.generation import Generation
    from blip_edge.models import Model, build
    from blip_edge.models.presets import preset
    from blip_edge.preprocess import Preprocess
    from blip_edge.training import TrainRecipe
    from blip_edge.training.course import Course
    from blip_edge.training.loop import fit
    from blip_edge.training.memory import estimate, planned
    from blip_edge.training.tasks import objective_of

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    program = peak_bytes()
    recipe = TrainRecipe(image_size=SIZE, steps=steps, prompt="", **CONFIGURATIONS[name][1])
    config = planned(preset("base"), recipe)
    rate = recipe.dropout
    text = replace(config.text_config, hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
    config = replace(config, text_config=text)
    words = tokenizer()
    blip = build(config)
    search = Generation(bos_token_id=words.dec, eos_token_id=words.sep, pad_token_id=words.pad)
    model = Model(blip, words, Preprocess(size=SIZE), search)
    ticks: list[float] = []
    fit(
        blip,
        objective_of(model, recipe),
        batches(recipe, ticks),
        recipe,
        steps=steps,
        description=name,
        course=Course(recompute=recipe.recompute),
    )
    ticks.append(time.perf_counter())
    expected = estimate(config, recipe).to_json()
    peak = peak_bytes()
    return {
        "peak_memory_bytes": peak,
        "program_bytes": program,
        "estimate": expected,
        "estimate_over_peak": round(expected["total"] / peak, 3),
        "seconds": [round(end - start, 2) for start, end in pairwise(ticks)],
    }


def tokenizer() -> Any:
    """A vocabulary of BERT's size of words of no meaning."""
    from blip_edge.text import Tokenizer

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "vocab.txt"
        # [DEC] and [ENC] come after them.
        listed = [*special, *(f"word{n}" for n in range(WORDS - 2 - len(special)))]
        path.write_text("\n".join(listed), encoding="utf-8")
        return Tokenizer.from_vocab(path)


def batches(recipe: Any, ticks: list[float]) -> Iterator[Any]:
    """Random batches without end; `ticks` says when each was asked for."""
    import torch

    from blip_edge.training.batches import Batch
    from blip_edge.training.memory import TEXT_TOKENS

    draw = torch.Generator().manual_seed(0)
    rows, tokens = recipe.batch, TEXT_TOKENS[recipe.task]
    while True:
        pixels = torch.randn(rows, 3, SIZE, SIZE, generator=draw)
        ids = torch.randint(1000, WORDS - 2, (rows, tokens), generator=draw)
        ticks.append(time.perf_counter())
        yield Batch(pixels, ids, torch.ones_like(ids), torch.arange(rows))


def run(names: list[str], steps: int, rows: dict[str, Any]) -> dict[str, Any]:
    """A record of the configurations in `names`, and of the others as they are in `rows`."""
    for name in names:
        argv = [sys.executable, __file__, "--worker", name, "--steps", str(steps)]
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"error: {name} ended with {done.returncode}; its message is above")
        row = json.loads(done.stdout)
        seconds = row["seconds"]
        # The first step warms up, unless there is no other.
        warm = [1e3 * value for value in (seconds[1:] or seconds)]
        rows[name] = {"what": CONFIGURATIONS[name][0], **row, "steps": summarise(warm).to_json()}
        print(f"{name}: {row['peak_memory_bytes'] / 1e9:.2f} GB", file=sys.stderr)
    return {
        "settings": {
            "model": "BLIP base",
            "image_size": SIZE,
            "queue_size": 57600,
            "threads": THREADS,
            "goal_bytes": GOAL_BYTES,
            "goal_share": GOAL_SHARE,
        },
        "configurations": {name: rows[name] for name in CONFIGURATIONS if name in rows},
        "machine": machine().to_json(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=None)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--only", choices=CONFIGURATIONS, action="append")
    parser.add_argument("--worker", choices=CONFIGURATIONS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(work(given.worker, given.steps)))
        return
    if given.steps < 2:
        parser.error("--steps must be at least 2: AdamW has no state before the first step's end")
    output: Path | None = given.output
    there = output is not None and output.is_file() and given.only
    rows = json.loads(output.read_text())["configurations"] if output and there else {}
    record = run(given.only or list(CONFIGURATIONS), given.steps, rows)
    if output is not None:
        write_json(output, record)
    for row in record["configurations"].values():
        print(
            f"{row['what']:40} {row['peak_memory_bytes'] / 1e9:6.2f} GB, estimate "
            f"{row['estimate']['total'] / 1e9:6.2f} ({row['estimate_over_peak']:.2f}), "
            f"{row['steps']['p50_ms'] / 1e3:.0f} s"
        )


if __name__ == "__main__":
    main()
