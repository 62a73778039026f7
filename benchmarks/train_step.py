"""One training step of BLIP base as a captioner, ours against `transformers`, in turns.

    python benchmarks/train_step.py -o benchmarks/results/train-step.json [--rounds 7]

    --variants ours-bf16 ours-bf16-compiled: these alone, against the first of them; each takes five
    to six gigabytes

Forward, backward and optimiser step at 224 pixels, eight pictures with captions of 20 tokens, two
threads, from the same random weights and without dropout. Every variant is a process of its own,
so that its peak of memory is its own, and they take turns step by step, so that a noisy neighbour
falls on all. The losses of the first step must agree, or nothing is written.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blip_edge.artifact import write_json
from blip_edge.benchmarks.machine import machine
from blip_edge.benchmarks.stats import ratio, summarise

VARIANTS = {
    "hf-fp32": "transformers, eager float32, AdamW as it comes",
    "hf-bf16": "transformers, bf16 autocast, fused AdamW",
    "ours-fp32": "blip-edge, float32",
    "ours-bf16": "blip-edge, bf16 autocast",
    "ours-fp32-compiled": "blip-edge, float32, compiled",
    "ours-bf16-compiled": "blip-edge, bf16 autocast, compiled",
}
COMPARED = {
    "autocast": ("ours-bf16", "hf-bf16"),
    "compiled": ("ours-bf16-compiled", "ours-bf16"),
}
USUAL = ["hf-fp32", "hf-bf16", "ours-fp32", "ours-bf16"]
SIZE, BATCH, TOKENS, THREADS, WARMUP = 224, 8, 20, 2, 2
LR, DECAY, SMOOTHING, DEC = 1e-5, 0.05, 0.1, 30522
# Sums in another order; eight bits of mantissa.
CLOSE = {"fp32": 1e-4, "bf16": 5e-2}

Step = Callable[[], float]


def _config() -> Any:
    """BLIP base; the vision tower's default range of 1e-10 would make all pictures alike."""
    from transformers import BlipConfig

    config = BlipConfig(
        vision_config={"image_size": SIZE, "initializer_range": 0.02, "layer_norm_eps": 1e-6},
        text_config={"num_attention_heads": 12, "label_smoothing": SMOOTHING},
    )
    config.architectures = ["BlipForConditionalGeneration"]
    return config


def write_weights(folder: Path) -> None:
    """Random weights for all variants."""
    from transformers import BlipForConditionalGeneration

    torch.manual_seed(0)
    BlipForConditionalGeneration(_config()).save_pretrained(folder)
    # Words of no meaning, as many as BERT has: [DEC] and [ENC] come after them.
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = [*special, *(f"word{n}" for n in range(DEC - len(special)))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")


def batch() -> tuple[Tensor, Tensor]:
    """Pictures (B, 3, S, S) and ids (B, T)."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randn(BATCH, 3, SIZE, SIZE, generator=draw)
    ids = torch.randint(1000, 30000, (BATCH, TOKENS), generator=draw)
    ids[:, 0] = DEC
    return pixels, ids


def _hugging_face(folder: Path, *, half: bool) -> Step:
    from transformers import BlipForConditionalGeneration

    model: Any = BlipForConditionalGeneration.from_pretrained(folder)
    model.train()
    pixels, ids = batch()
    mask = torch.ones_like(ids)

    def loss() -> Tensor:
        out = model(pixel_values=pixels, input_ids=ids, attention_mask=mask, labels=ids)
        found: Tensor = out.loss
        return found

    return _step(
        loss,
        torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, fused=half or None),
        half,
    )


def _ours(folder: Path, *, half: bool, faster: bool) -> Step:
    from blip_edge.artifact import read_json
    from blip_edge.models import BlipConfig
    from blip_edge.models.weights import read_weights, restore
    from blip_edge.text import Tokenizer
    from blip_edge.training.batches import Batch
    from blip_edge.training.compiled import compiled
    from blip_edge.training.objectives import CaptionObjective
    from blip_edge.training.recipe import TrainRecipe

    source = folder / "config.json"
    config = BlipConfig.from_json(read_json(source), source=source)
    weights = folder / "model.safetensors"
    blip = restore(config, read_weights(weights), source=weights).train()
    pixels, ids = batch()
    words = Tokenizer.from_vocab(folder / "vocab.txt")
    recipe = TrainRecipe(prompt="", label_smoothing=SMOOTHING)
    objective = CaptionObjective(blip, words, recipe)
    step = Batch(pixels, ids, torch.ones_like(ids), torch.arange(BATCH))

    compiled(blip, on=faster).__enter__()  # to the end of this process

    def loss() -> Tensor:
        found: Tensor = objective(step, 0)["lm"]
        return found

    # As training/loop.py steps.
    return _step(
        loss, torch.optim.AdamW(blip.parameters(), lr=LR, weight_decay=DECAY, fused=True), half
    )


def _step(loss: Callable[[], Tensor], optimiser: torch.optim.Optimizer, half: bool) -> Step:
    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            value = loss()
        value.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return float(value.detach())

    return step


def work(name: str, folder: Path) -> None:
    """A worker: a JSON line for every line that it is sent."""
    torch.set_num_threads(THREADS)
    half = "bf16" in name
    if name.startswith("hf"):
        step = _hugging_face(folder, half=half)
    else:
        step = _ours(folder, half=half, faster=name.endswith("compiled"))
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step()
        row = {
            "loss": loss,
            "wall_ms": 1e3 * (time.perf_counter() - wall),
            "cpu_ms": 1e3 * (time.process_time() - cpu),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(row), flush=True)


class Worker:
    """A variant's process."""

    def __init__(self, name: str, folder: Path) -> None:
        argv = [sys.executable, __file__, "--worker", name, str(folder)]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def step(self) -> dict[str, float]:
        """One step, and what it took."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print("step", file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise SystemExit("error: a worker ended; its own message is above") from None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("error: a worker ended; its own message is above")
        row: dict[str, float] = json.loads(line)
        return row

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def run(rounds: int, variants: list[str]) -> dict[str, Any]:
    """The variants in turns, each round beginning with another one."""
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_weights(folder)
        workers = {name: Worker(name, folder) for name in variants}
        first = {name: worker.step() for name, worker in workers.items()}
        _agree({name: row["loss"] for name, row in first.items()})
        for _ in range(WARMUP - 1):
            for worker in workers.values():
                worker.step()
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        for number in range(rounds):
            names = [*workers][number % len(workers) :] + [*workers][: number % len(workers)]
            for name in names:
                rows[name].append(workers[name].step())
                print(
                    f"round {number + 1}: {name} {rows[name][-1]['wall_ms']:.0f} ms",
                    file=sys.stderr,
                )
        for worker in workers.values():
            worker.stop()
    return _record(rows, {name: row["loss"] for name, row in first.items()})


def _agree(losses: dict[str, float]) -> None:
    reference = next(iter(losses.values()))
    for name, loss in losses.items():
        if abs(loss - reference) > CLOSE[name.split("-")[1]]:
            raise SystemExit(f"error: the first losses differ, so the work does too: {losses}")


def _record(rows: dict[str, list[dict[str, float]]], losses: dict[str, float]) -> dict[str, Any]:
    times = {name: [row["wall_ms"] for row in found] for name, found in rows.items()}
    variants, reference = {}, next(iter(rows))
    for name, found in rows.items():
        faster = ratio(times[name], times[reference])
        variants[name] = {
            "what": VARIANTS[name],
            "first_loss": losses[name],
            **summarise(times[name]).to_json(),
            "cpu_p50_ms": round(float(np.median([row["cpu_ms"] for row in found])), 1),
            "samples_per_s": round(1e3 * BATCH / float(np.median(times[name])), 3),
            "speed": {"times": faster.ratio, "low": faster.low, "high": faster.high},
            "peak_memory_bytes": int(max(row["peak_bytes"] for row in found)),
            "wall_ms": [round(value, 1) for value in times[name]],
        }
    record = {
        "settings": {
            "model": "BLIP base, captioning",
            "image_size": SIZE,
            "batch": BATCH,
            "tokens": TOKENS,
            "threads": THREADS,
            "warmup": WARMUP,
            "rounds": len(times[reference]),
        },
        "reference": reference,
        "variants": variants,
        "machine": machine().to_json(),
    }
    for name, (one, other) in COMPARED.items():
        if one in times and other in times:
            times_as_fast = ratio(times[one], times[other])
            record[name] = {
                "times": times_as_fast.ratio,
                "low": times_as_fast.low,
                "high": times_as_fast.high,
            }
    return record


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=USUAL)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker[0], Path(given.worker[1]))
        return
    record = run(given.rounds, given.variants)
    if given.output is not None:
        write_json(given.output, record)
    for row in record["variants"].values():
        print(
            f"{row['what']:45} {row['p50_ms']:8.0f} ms  {row['speed']['times']:.2f}x  "
            f"{row['peak_memory_bytes'] / 1e9:.2f} GB"
        )


if __name__ == "__main__":
    main()
