"""Packages made for quantization side by side: one captioner, one set of pictures, one time budget.

    python benchmarks/quantizers.py -o runs/standard     # goes on where it stopped

The run folder is that of standard_bench.py. Every package sees the same 128 train pictures, and is
measured twice: its own graphs, as it makes them from our float ones (quantizers_native.py), and the
ranges that it finds in our graphs (`quantize --set engine=…`). No layer is sent back to float. All
are evaluated alike on the test split. Who takes longer than the budget is told so. The record is
quantize/engines.json.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantizers_table import PAGE, with_table
from runs import ROOT, blip_edge, read

RECORD = ROOT / "quantize" / "engines.json"
NATIVE = ROOT / "benchmarks" / "quantizers_native.py"
MODEL, METRIC = "caption", "truth"
SAMPLES, BUDGET = 128, 900.0
PLAIN = ("sensitivity=none", "eval_items=0")


@dataclass(frozen=True)
class Row:
    """A line of the table: who quantizes, and whose graphs run where."""

    name: str
    what: str
    target: str
    engine: str | None = None
    """Whose own graphs are run; None: ours."""
    sets: tuple[str, ...] | None = None
    """Of `quantize`, where graphs are ours; None leaves the model in float."""


ROWS = (
    Row("float-onnx", "float32", "onnx"),
    Row("float-openvino", "float32", "openvino"),
    Row("ours-onnx", "blip-edge", "onnx", sets=PLAIN),
    Row("ours-openvino", "blip-edge", "openvino", sets=PLAIN),
    Row("inc-own", "neural-compressor, its graphs", "onnx", engine="neural-compressor"),
    Row("inc-onnx", "neural-compressor", "onnx", sets=("engine=neural-compressor", *PLAIN)),
    Row(
        "inc-autotune",
        "neural-compressor, autotune",
        "onnx",
        sets=("engine=neural-compressor", "observer=autotune", "sensitivity=none"),
    ),
    Row("ort-own", "onnxruntime, its graphs", "onnx", engine="onnxruntime"),
    Row("ort-onnx", "onnxruntime", "onnx", sets=("engine=onnxruntime", *PLAIN)),
    Row("nncf-own", "NNCF, its graphs", "openvino", engine="nncf"),
    Row("nncf-openvino", "NNCF", "openvino", sets=("engine=nncf", *PLAIN)),
)


class Bench:
    """The rows of one run folder, made one after the other."""

    def __init__(self, run: Path, *, samples: int, budget: float, limit: int | None) -> None:
        self._run, self._samples, self._budget, self._limit = run, samples, budget, limit
        # What was only tried out is never taken for the whole.
        self.folder = "quantizers" if limit is None else f"quantizers-{limit}"
        (run / self.folder).mkdir(exist_ok=True)

    def complete(self, row: Row) -> None:
        """Make and measure a row; that it could not be made is noted."""
        if self.path(row, ".json").exists() or self.path(row, ".refused").exists():
            return
        try:
            self._make(row)
            words = ["eval", f"{self.folder}/{row.name}", "--task", "caption", "--data", "data"]
            words += ["--ci", "--json", "--threads", "1"]
            words += [] if self._limit is None else ["--limit", str(self._limit)]
            self.path(row, ".json").write_text(blip_edge(self._run, words), encoding="utf-8")
        except subprocess.TimeoutExpired:
            self._refuse(row, f"over the budget of {self._budget:g} s")
        except subprocess.CalledProcessError as error:
            self._refuse(row, f"exit code {error.returncode}")

    def path(self, row: Row, suffix: str = "") -> Path:
        """A file of the row beside its bundle, or the bundle."""
        return self._run / self.folder / f"{row.name}{suffix}"

    def _refuse(self, row: Row, why: str) -> None:
        self.path(row, ".refused").write_text(f"{why}\n", encoding="utf-8")

    def _make(self, row: Row) -> None:
        if self.path(row).exists():
            return
        if row.engine is not None:
            self._by_itself(row, row.engine)
            return
        model, precision = MODEL, "fp32"
        if row.sets is not None:
            model, precision = self._quantized(row.sets), "int8"
            seconds = read(self._run / model / "provenance.json")["seconds"]
            self._note(row, {"seconds": seconds, "samples": self._samples})
        words = ["export", model, "--target", row.target, "--precision", precision]
        blip_edge(self._run, [*words, "-o", f"{self.folder}/{row.name}"])

    def _by_itself(self, row: Row, engine: str) -> None:
        given = f"{self.folder}/float-{row.target}"
        words = [sys.executable, str(NATIVE), engine, MODEL, "data", given]
        words += ["-o", f"{self.folder}/{row.name}", "--samples", str(self._samples)]
        said = self._timed(words)
        self._note(row, json.loads(said.splitlines()[-1]))

    def _quantized(self, sets: tuple[str, ...]) -> str:
        """The model folder with these settings, one for all targets."""
        output = f"{self.folder}/model-{'-'.join(sets).replace('=', '-')}"
        if not (self._run / output).exists():
            words = ["quantize", MODEL, "--data", "data", "--set", f"samples={self._samples}"]
            words += [word for pair in sets for word in ("--set", pair)]
            self._timed([sys.executable, str(ROOT / "cli.py"), *words, "-o", output])
        return output

    def _timed(self, words: list[str]) -> str:
        """What a program of this checkout says that gets no more time than the budget."""
        print("$", *words[1:], file=sys.stderr, flush=True)
        done = subprocess.run(
            words,
            cwd=self._run,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=self._budget,
        )
        return done.stdout

    def _note(self, row: Row, made: dict[str, Any]) -> None:
        self.path(row, ".made.json").write_text(json.dumps(made) + "\n", encoding="utf-8")


def record(bench: Bench, *, samples: int, budget: float) -> dict[str, Any]:
    """What is there of the rows."""
    rows: dict[str, Any] = {}
    for row in ROWS:
        if bench.path(row, ".refused").exists():
            rows[row.name] = {"refused": bench.path(row, ".refused").read_text().strip()}
        if not bench.path(row, ".json").exists():
            continue
        said, made = read(bench.path(row, ".json")), bench.path(row, ".made.json")
        graphs = read(bench.path(row) / "manifest.json")["graphs"]
        rows[row.name] = {
            "metric": round(said["metrics"][METRIC], 4),
            "interval": [round(bound, 4) for bound in said["intervals"][METRIC]],
            "items": said["items"],
            "bytes": sum(graph["bytes"] for graph in graphs.values()),
            "seconds": round(read(made)["seconds"], 1) if made.exists() else None,
        }
    return {"metric": METRIC, "samples": samples, "budget_seconds": budget, "rows": rows}


def main() -> None:
    """Run, record and write the table; or the last alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-o", "--output", type=Path, help="the run folder of standard_bench.py")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="train pictures")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for each quantizer")
    parser.add_argument(
        "--limit", type=int, help="test pictures, to try it out: the table is printed, not kept"
    )
    parser.add_argument("--table", action="store_true", help="only write the table")
    given = parser.parse_args()
    if given.table == (given.output is not None):
        parser.error("give either -o or --table")
    if given.output is not None:
        sizes = {"samples": given.samples, "budget": given.budget}
        bench = Bench(given.output, limit=given.limit, **sizes)
        for row in ROWS:
            bench.complete(row)
        kept = record(bench, **sizes)
        if given.limit is not None:
            print(with_table("", kept, ROWS))
            return
        RECORD.write_text(f"{json.dumps(kept, indent=1)}\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), read(RECORD), ROWS), "utf-8")


if __name__ == "__main__":
    main()
