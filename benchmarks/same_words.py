"""Whether bundles of a trained captioner say what torch says, on 200 drawn pictures.

    python benchmarks/same_words.py MODEL DATA -o runs/words   # goes on if killed
    python benchmarks/same_words.py --table                    # record -> benchmarks/README.md

Bundles in float32 have to give the token ids of torch, for every picture; those in 8 bits are
judged by CIDEr on the whole test split. MODEL and DATA are a captioner and a data set such as those
of the standard bench. A test holds the page to the record.
"""

import argparse
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from runs import between, read

from blip_edge import load
from blip_edge.artifact import sha256_folder, write_json
from blip_edge.data.dataset import Dataset
from blip_edge.evaluation import EvalSettings, evaluate_loaded

HERE = Path(__file__).resolve().parent
RECORD = HERE / "results" / "same-words.json"
PAGE = HERE / "README.md"
BEGIN = "<!-- words: written by benchmarks/same_words.py -->\n"
END = "<!-- /words -->\n"
PICTURES = 200
BEAMS = (1, 3)
FLOATS = ("onnx", "openvino", "coreml", "executorch")
INT8 = ("onnx", "openvino", "coreml")
GOAL = 0.01
"""Largest share of the float model's CIDEr that 8 bits may cost."""


def run(model: Path, data: Path, folder: Path) -> None:
    """Make what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    # Its own gate is looked at here, not trusted.
    quantize = ["quantize", model, "--data", data, "--tolerance", "1", "--set", "eval_items=100"]
    _make(folder / "int8", [*quantize, "--set", "sensitivity=sqnr"])
    for target in FLOATS:
        _make(folder / f"{target}-fp32", ["export", model, "--target", target, *_float(target)])
    for target in INT8:
        _make(folder / f"{target}-int8", ["export", folder / "int8", "--target", target])
    _once(folder / "torch.json", partial(_both, model, data))
    for target in FLOATS:
        _once(folder / f"{target}-fp32.json", partial(_ids, folder / f"{target}-fp32", data))
    for target in INT8:
        _once(folder / f"{target}-int8.json", partial(_cider, folder / f"{target}-int8", data))


def _float(target: str) -> list[str]:
    return ["--precision", "fp32", *(["--set", "rows=3"] if target == "coreml" else [])]


def _make(output: Path, words: list[Any]) -> None:
    if not output.exists():
        command = [sys.executable, "-m", "blip_edge", *map(str, words), "-o", str(output)]
        subprocess.run(command, check=True)


def _once(path: Path, make: Any) -> None:
    if not path.exists():
        print(path.stem, file=sys.stderr, flush=True)
        write_json(path, make())


def _both(folder: Path, data: Path) -> dict[str, Any]:
    return {**_ids(folder, data), **_cider(folder, data)}


def _ids(folder: Path, data: Path) -> dict[str, Any]:
    """Token ids of each picture, by number of beams."""
    model, dataset = load(folder, threads=2), Dataset.open(data)
    images = [dataset.image_path(row.image) for row in dataset.captions("test")[:PICTURES]]
    said = {beams: model.caption(images, beams=beams) for beams in BEAMS}
    return {"ids": {str(k): [[int(i) for i in c.token_ids] for c in v] for k, v in said.items()}}


def _cider(folder: Path, data: Path) -> dict[str, Any]:
    found = evaluate_loaded(
        load(folder, threads=2), Dataset.open(data), "caption", "test", EvalSettings()
    )
    return {"CIDEr": found.metrics["CIDEr"], "items": found.items}


def record(model: Path, data: Path, folder: Path) -> dict[str, Any]:
    """What a finished run has found."""
    theirs = read(folder / "torch.json")
    same = {
        target: {
            beams: sum(a == b for a, b in zip(ids, theirs["ids"][beams], strict=True))
            for beams, ids in read(folder / f"{target}-fp32.json")["ids"].items()
        }
        for target in FLOATS
    }
    return {
        "model_sha256": sha256_folder(model),
        "data": {"name": Dataset.open(data).name, "sha256": Dataset.open(data).digest()},
        "pictures": len(theirs["ids"]["1"]),
        "same": same,
        "float": {"CIDEr": theirs["CIDEr"], "items": theirs["items"]},
        "int8": {target: read(folder / f"{target}-int8.json")["CIDEr"] for target in INT8},
        "goal": GOAL,
        "mega_bytes": {
            path.name: round(_bytes(path) / 1e6, 2)
            for path in sorted(folder.iterdir())
            if (path / "manifest.json").is_file()
        },
    }


def _bytes(bundle: Path) -> int:
    return sum(graph["bytes"] for graph in read(bundle / "manifest.json")["graphs"].values())


def table(found: dict[str, Any]) -> str:
    """In Markdown."""
    pictures, before = found["pictures"], found["float"]["CIDEr"]
    lines = [
        f"Captions of {pictures} test pictures of the standard drawn world by its captioner, in "
        "float32, the same token ids as in torch:",
        "",
        "| runs on | greedy | 3 beams | MB |",
        "|---|---|---|---|",
        *(
            f"| {target} | {same['1']} | {same['3']} | {found['mega_bytes'][f'{target}-fp32']} |"
            for target, same in found["same"].items()
        ),
        "",
        f"In 8 bits, CIDEr on {found['float']['items']} pictures; in float it is {before:.1f}, and "
        f"{found['goal']:.0%} of it may be lost:",
        "",
        "| runs on | CIDEr | lost | MB |",
        "|---|---|---|---|",
        *(
            f"| {target} | {cider:.1f} | {1 - cider / before:.2%} "
            f"| {found['mega_bytes'][f'{target}-int8']} |"
            for target, cider in found["int8"].items()
        ),
    ]
    return "\n".join(lines) + "\n"


def with_table(page: str, found: dict[str, Any]) -> str:
    """`page` with the table between its marks."""
    return between(page, BEGIN, END, table(found))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Bundles' captions against torch's")
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--table", action="store_true", help="only write the table")
    how = parser.parse_args()
    if not how.table:
        run(how.model, how.data, how.output)
        write_json(RECORD, record(how.model, how.data, how.output))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(page, read(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
