"""A worker that takes as long as it is told, what it is asked, and a quiet machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blip_edge.benchmarks import BenchRecipe
from blip_edge.benchmarks.job import Sample
from blip_edge.runtime.asked import Asked

__all__ = ["MANIFEST", "FakeWorker", "Quiet", "asked", "quick"]

MANIFEST: dict[str, Any] = {
    "format_version": 1,
    "target": "onnx",
    "precision": "int8",
    "tasks": ["caption"],
    "graphs": {
        "vision": {
            "file": "vision.onnx",
            "sha256": "0" * 64,
            "bytes": 700,
            "inputs": {"pixel_values": {"shape": [1, 3, 32, 32], "dtype": "float32"}},
            "outputs": {"cross_key_0": {"shape": ["B", 4, "N", 8], "dtype": "float32"}},
        },
        "decoder": {
            "file": "decoder.onnx",
            "sha256": "1" * 64,
            "bytes": 300,
            "inputs": {"input_ids": {"shape": ["R", "T"], "dtype": "int32"}},
            "outputs": {"logits": {"shape": ["R", 3], "dtype": "float32"}},
        },
    },
    "preprocess": {
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
    "tokenizer": "tokenizer.json",
    "decode": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "prompt_ids": [1]},
    "cache": {"layers": [{"self_heads": 4, "cross_heads": 4, "head_dim": 8}], "static": None},
    "quality": None,
    "latency": [],
}


def asked(*names: str) -> list[Asked]:
    return [Asked((Path(name),)) for name in names]


def quick(**changes: Any) -> BenchRecipe:
    return BenchRecipe(**({"runs": 6, "warmup": 3, "seconds": 0.0, "burst": 2} | changes))


class FakeWorker:
    """Writes down who was asked for what; each caption takes `ms`, the first ones `warm` more."""

    log: list[tuple[str, tuple[str, ...]]]

    def __init__(self, name: str, *, ms: float = 1.0, simulated: bool = False) -> None:
        self.name, self.ms, self.stopped, self.killed = name, ms, 0, 0
        self.greeting = {"load_ms": 5.0, "simulated": simulated}
        self.log = []

    def run(self, asked: Sequence[Asked]) -> list[Sample]:
        self.log.append((self.name, tuple(str(one.images[0]) for one in asked)))
        stages = {"preprocess_ms": self.ms / 4, "vision_ms": self.ms / 4, "decode_ms": self.ms / 2}
        sample = {"total_ms": self.ms, "cpu_ms": self.ms, "step_ms": self.ms / 4, **stages}
        return [{**sample, "steps": 3, "tokens": 4} for _ in asked]

    def calibrate(self, target: str) -> dict[str, float | None] | None:
        return {"fp32_gflops": 100.0, "int8_gflops": 400.0}

    def profile(self, asked: Sequence[Asked]) -> list[dict[str, Any]] | None:
        return None

    def stop(self) -> int | None:
        self.stopped += 1
        return 123_456_789

    def kill(self) -> None:
        self.killed += 1


class Quiet:
    """A load guard on a machine of our own."""

    def others(self) -> float | None:
        return 0.02
