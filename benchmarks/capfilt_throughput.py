"""Pictures a second of CapFilt: 8-bit bundles against the loop that one writes with transformers.

    python benchmarks/capfilt_throughput.py -o runs/standard   # after standard_bench.py
    python benchmarks/capfilt_throughput.py --table            # record -> train/README.md

Both draw a caption of each picture from the nucleus, and match it and the web's text with the
picture; both have the weights of the standard bench's captioner and matcher, and two threads. They
take turns on the same pictures. The record is benchmarks/results/capfilt-throughput.json.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from runs import ROOT, RunOrTable, between, blip_edge

RECORD = ROOT / "benchmarks" / "results" / "capfilt-throughput.json"
PAGE = ROOT / "train" / "README.md"
BEGIN = "<!-- throughput: written by benchmarks/capfilt_throughput.py -->\n"
END = "<!-- /throughput -->\n"
THREADS, GOAL = 2, 6.0
TASKS = ("caption", "retrieval")


def make(folder: Path, pictures: int, web: str = "web") -> None:
    """Web pictures, and the models as bundles in 8 bits."""
    if not (folder / web).exists():
        few = [f"{split}={count}" for split, count in (("train", 20), ("val", 20), ("test", 20))]
        sets = [*few, f"web={pictures}", "unseen=0", "clips=0", "dialogs=0", "questions=1"]
        flags = [word for pair in sets for word in ("--set", pair)]
        words = ["data", "make", "shapes", "--recipe", "shapes-standard", *flags, "--seed", "7"]
        blip_edge(folder, [*words, "-o", web])
    for task in TASKS:
        if not (folder / f"{task}-int8").exists():
            words = ["quantize", task, "--data", "data", "--set", "eval_items=0"]
            blip_edge(folder, [*words, "--set", "sensitivity=sqnr", "-o", f"{task}-int8"])
        if not (folder / f"{task}-int8-onnx").exists():
            words = ["export", f"{task}-int8", "--target", "onnx", "-o", f"{task}-int8-onnx"]
            blip_edge(folder, words)


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of both for all pictures, in turns."""
    rows = json.loads((folder / "web" / "web_train.json").read_text(encoding="utf-8"))
    pairs = [(folder / "web" / "images" / row["image"], row["caption"]) for row in rows]
    loop = _transformers(folder, pairs)
    ways: dict[str, Callable[[], None]] = {"blip-edge": lambda: _ours(folder), "transformers": loop}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name in ways if number % 2 else reversed(ways):
            started = time.perf_counter()
            ways[name]()
            if number:  # the first round warms up
                seconds[name].append(round(time.perf_counter() - started, 4))
            print(f"{name}: {time.perf_counter() - started:.2f} s", file=sys.stderr, flush=True)
    return {"pictures": len(pairs), "threads": THREADS, "seconds": seconds}


def _ours(folder: Path) -> None:
    """The whole stage, reading and writing included; models are opened anew, too."""
    from blip_edge.evaluation.capfilt import capfilt

    with TemporaryDirectory() as scratch:
        capfilt(
            folder / "web",
            Path(scratch) / "clean",
            captioners=[folder / "caption-int8-onnx"],
            filters=[folder / "retrieval-int8-onnx"],
            threads=THREADS,
        )


def _transformers(folder: Path, pairs: list[tuple[Path, str]]) -> Callable[[], None]:
    """Open pictures one by one, generate, and ask the matcher about both texts."""
    import torch
    from PIL import Image
    from transformers import (
        AutoProcessor,
        BlipForConditionalGeneration,
        BlipForImageTextRetrieval,
    )

    torch.set_num_threads(THREADS)
    captioner, matcher = (
        kind.from_pretrained(folder / task).eval()
        for kind, task in zip(
            (BlipForConditionalGeneration, BlipForImageTextRetrieval), TASKS, strict=True
        )
    )
    processors = [AutoProcessor.from_pretrained(folder / task) for task in TASKS]
    how = {"do_sample": True, "top_p": 0.9, "num_beams": 1, "min_length": 5, "max_length": 20}

    @torch.inference_mode()
    def loop() -> None:
        for path, text in pairs:
            image = Image.open(path).convert("RGB")
            seen = processors[0](images=image, return_tensors="pt")
            said = captioner.generate(**seen, **how)
            caption = processors[0].decode(said[0], skip_special_tokens=True)
            both = processors[1](
                images=[image] * 2, text=[text, caption], padding=True, return_tensors="pt"
            )
            matcher(**both, use_itm_head=True).itm_score.softmax(-1)

    return loop


def table(kept: dict[str, Any]) -> str:
    """What a record says."""
    rates = {
        name: [kept["pictures"] / one for one in seconds]
        for name, seconds in kept["seconds"].items()
    }
    ours, theirs = rates["blip-edge"], rates["transformers"]
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    met = "" if ratio >= GOAL else " (missed)"
    return (
        f"On {kept['threads']} threads, {kept['pictures']} pictures a round, {len(ours)} rounds in "
        f"turns: {statistics.median(ours):.1f} pictures/s with bundles in 8 bits, "
        f"{statistics.median(theirs):.1f} with a loop over `transformers` in float32; ratio "
        f"{ratio:.1f} ({min(ratios):.1f} to {max(ratios):.1f}), goal {GOAL:g}{met}. Ours reads, "
        "writes and opens its models within that time.\n"
    )


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the words of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


def main() -> None:
    """Measure, record and write; or the last alone."""
    parser = RunOrTable(__doc__, "the run folder of standard_bench.py")
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.ask()
    if given.output is not None:
        sys.path.insert(0, str(ROOT))
        make(given.output, given.pictures)
        kept = json.dumps(measure(given.output, given.rounds), indent=1)
        RECORD.write_text(f"{kept}\n", encoding="utf-8")
    kept = json.loads(RECORD.read_text(encoding="utf-8"))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


if __name__ == "__main__":
    main()
