"""How long a full-size model takes to load, against reading its file.

    python benchmarks/load_time.py -o benchmarks/results/load-time.json [--rounds 7]

A model folder of BLIP base with random weights is written, and then in turns opened with
`load_model` and its weights file read with `Path.read_bytes`, each in a fresh process and with the
file in the page cache. Imports are not counted.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from blip_edge.artifact import write_json
from blip_edge.benchmarks.machine import machine
from blip_edge.benchmarks.stats import ratio, summarise

WEIGHTS = "model.safetensors"


def write_model(folder: Path) -> None:
    """BLIP base as a captioner, with as many words as BERT has."""
    from blip_edge.generation import Generation
    from blip_edge.models import Model, build, save_model
    from blip_edge.models.presets import preset
    from blip_edge.preprocess import Preprocess
    from blip_edge.text import Tokenizer

    config = preset("base")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(f"word{n}" for n in range(config.text_config.vocab_size - 7))]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    tokenizer = Tokenizer.from_vocab(folder / "vocab.txt")
    search = Generation(
        bos_token_id=tokenizer.dec, eos_token_id=tokenizer.sep, pad_token_id=tokenizer.pad
    )
    pixels = Preprocess(size=config.vision_config.image_size)
    save_model(folder, Model(build(config), tokenizer, pixels, search))


def work(what: str, folder: Path) -> None:
    """One measurement, as a line of milliseconds."""
    from blip_edge.models import load_model

    started = time.perf_counter()
    if what == "load":
        load_model(folder)
    else:
        (folder / WEIGHTS).read_bytes()
    print(1e3 * (time.perf_counter() - started))


def run(rounds: int) -> dict[str, Any]:
    """Both in turns."""
    times: dict[str, list[float]] = {"load": [], "read": []}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder)
        size = (folder / WEIGHTS).stat().st_size
        for number in range(rounds + 1):  # the first round fills the page cache
            for what in times:
                argv = [sys.executable, __file__, "--worker", what, str(folder)]
                out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
                if number:
                    times[what].append(float(out))
    found = ratio(times["read"], times["load"])
    return {
        "settings": {"model": "BLIP base, captioning", "rounds": rounds, "bytes": size},
        "load": summarise(times["load"]).to_json(),
        "read": summarise(times["read"]).to_json(),
        "load_over_read": {"times": found.ratio, "low": found.low, "high": found.high},
        "samples_ms": {what: [round(one, 1) for one in some] for what, some in times.items()},
        "machine": machine().to_json(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker[0], Path(given.worker[1]))
        return
    record = run(given.rounds)
    if given.output is not None:
        write_json(given.output, record)
    print(json.dumps({key: record[key] for key in ("load", "read", "load_over_read")}, indent=2))


if __name__ == "__main__":
    main()
