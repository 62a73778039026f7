"""The same bundles on this machine, behind ssh and in a browser: one table, made from records.

    python benchmarks/device_records.py -o runs/standard --ssh me@board --browser chromium
    python benchmarks/device_records.py --table   # record -> benchmarks/README.md

The run folder is that of student_grid.py; students are exported in 8 bits, and a BLIP base with
random weights stands for full size. Devices are timed one after the other, bundles on one in turns.
The record is benchmarks/results/devices.json; raw times stay in the run folder.
"""

import json
from pathlib import Path
from typing import Any

from runs import ROOT, RunOrTable, between, blip_edge

RECORD = ROOT / "benchmarks" / "results" / "devices.json"
PAGE = ROOT / "benchmarks" / "README.md"
BEGIN = "<!-- devices: written by benchmarks/device_records.py -->\n"
END = "<!-- /devices -->\n"
STUDENTS = ("44", "25", "10")
TARGETS = ("onnx", "openvino")
AGAIN, AGREE = "student-25-onnx", 0.05
"""The bundle of which two runs are held against each other, and the goal."""
KEPT = (
    *("name", "target", "precision", "bytes", "where", "p50_ms", "p90_ms", "tokens_per_s"),
    *("peak_memory_bytes", "complete", "noisy", "others", "throttled", "notes"),
)


def make(folder: Path, full: Path | None) -> dict[str, list[str]]:
    """Bundles by target, made where they are missing."""
    (folder / "devices").mkdir(exist_ok=True)
    models = {f"student-{size}": f"students/caption-{size}-0" for size in STUDENTS}
    bundles: dict[str, list[str]] = {target: [] for target in TARGETS}
    for name, model in models.items():
        quantized = f"devices/{name}"
        if not (folder / quantized).exists():
            words = ["quantize", model, "--data", "data", "--set", "sensitivity=sqnr"]
            blip_edge(folder, [*words, "--set", "eval_items=0", "-o", quantized])
        for target in TARGETS:
            bundles[target].append(_bundle(folder, quantized, f"devices/{name}-{target}", target))
    if full is not None:
        for target in TARGETS:
            name = f"devices/base-{target}"
            bundles[target].append(_bundle(folder, str(full.resolve()), name, target))
    return bundles


def _bundle(folder: Path, model: str, output: str, target: str) -> str:
    if not (folder / output).exists():
        # Logits of random weights are all but equal: the gate of single graphs is enough.
        words = ["export", model, "--target", target, "--set", "int8_psnr=10"]
        blip_edge(folder, [*words, "-o", output])
    return output


def measure(folder: Path, bundles: dict[str, list[str]], devices: list[str]) -> list[Any]:
    """A record of every bundle on every device that runs its target, without raw times."""
    found: list[Any] = []
    for number, device in enumerate(devices):
        output = folder / "devices" / f"records-{number}.json"
        if not output.exists():
            ran = bundles["onnx"] + ([] if device.startswith("browser") else bundles["openvino"])
            words = ["bench", *ran, "--device", device, "--data", "data", "--mode", "quick"]
            blip_edge(folder, [*words, "--threads", "2", "-o", str(output.resolve())])
        for record in json.loads(output.read_text(encoding="utf-8")):
            kept = {key: record[key] for key in KEPT}
            # An address says where somebody's machine is, and nothing about it.
            found.append(
                {**kept, "where": device.split(":")[0], "cpu": record["device"].get("cpu")}
            )
    return found


def twice(folder: Path) -> list[dict[str, Any]]:
    """One student's bundle in two runs of their own, as a published row is measured."""
    found = []
    for number in range(2):
        output = folder / "devices" / f"normal-{number}.json"
        if not output.exists():
            words = ["bench", f"devices/{AGAIN}", "--data", "data", "--mode", "normal"]
            blip_edge(folder, [*words, "--threads", "2", "-o", str(output.resolve())])
        [record] = json.loads(output.read_text(encoding="utf-8"))
        found.append({key: record[key] for key in ("name", "p50_ms", "noisy", "others")})
    return found


def table(kept: dict[str, Any]) -> str:
    """A row a bundle and device, in Markdown, and how far two runs agree."""
    rows = kept["rows"]
    lines = [
        "| bundle | device | p50, ms | p90, ms | tokens/s | peak memory, MB | others had |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        memory, others = row["peak_memory_bytes"], row["others"]
        cells = [
            row["name"],
            row["where"],
            *(f"{row[key]:.1f}" for key in ("p50_ms", "p90_ms", "tokens_per_s")),
            "" if memory is None else f"{memory / 1e6:.0f}",
            "" if others is None else f"{others:.0%} of the cores",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    noisy, slower = (sum(bool(row[mark]) for row in rows) for mark in ("noisy", "throttled"))
    lines += [
        "",
        f"Of {len(rows)} rows {noisy} are marked noisy and {slower} throttled (the machine grew "
        "slower meanwhile). Behind ssh is the same machine.",
    ]
    first, second = (run["p50_ms"] for run in kept["twice"])
    apart = abs(second / first - 1)
    met = "" if apart <= AGREE else ", **missed**"
    lines += [
        "",
        f"{kept['twice'][0]['name']} twice in mode `normal`, one run after the other: "
        f"{first:.2f} and {second:.2f} ms, {apart:.1%} apart (goal {AGREE:.0%}{met}).",
    ]
    return "\n".join(lines) + "\n"


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


def main() -> None:
    """Measure, record and write; or the last alone."""
    parser = RunOrTable(__doc__, "the run folder of student_grid.py")
    parser.add_argument("--full", type=Path, help="a quantized model of full size")
    parser.add_argument("--ssh", metavar="[USER@]HOST[:PORT]")
    parser.add_argument("--browser", metavar="PROGRAM")
    given = parser.ask()
    if given.output is not None:
        devices = ["local"]
        devices += [f"ssh:{given.ssh}"] if given.ssh else []
        devices += [f"browser:{given.browser}"] if given.browser else []
        bundles = make(given.output, given.full)
        kept = {"rows": measure(given.output, bundles, devices), "twice": twice(given.output)}
        RECORD.write_text(f"{json.dumps(kept, indent=1)}\n", encoding="utf-8")
    kept = json.loads(RECORD.read_text(encoding="utf-8"))
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), kept), encoding="utf-8")


if __name__ == "__main__":
    main()
