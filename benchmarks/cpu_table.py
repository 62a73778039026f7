"""What the pages say of `cpu_inference.py`: benchmarks/README.md a section of each record, and the
README the fastest of ours."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runs import between

HERE = Path(__file__).resolve().parent
PAGE, FRONT = HERE / "README.md", HERE.parent / "README.md"
RECORDS = {name: HERE / "results" / f"{name}.json" for name in ("cpu-inference", "two-runtimes")}
"""By the name of their marks: all variants and tasks, and ours on one runtime against two."""
_STAGES = ("preprocess", "vision", "question", "prefill", "steps", "texts", "rest")


def tables(record: dict[str, Any]) -> str:
    """All tables, in Markdown."""
    parts = [_head(record), *(_race(race) for race in record["tasks"].values())]
    parts += [_stages(record), _goals(record)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _head(record: dict[str, Any]) -> list[str]:
    how, roof = record["settings"], record["roof"]
    rates = ", ".join(f"{rate:.0f} in {name}" for name, rate in roof["gflops"].items())
    race = next(iter(record["tasks"].values()))
    reference = race["variants"][record["reference"]]["what"]
    return [
        f"{how['model']} with random weights, {how['image_size']} px, {how['threads']} threads, "
        f"{how['rounds']} rounds in turns on {record['machine']['cpu']}; times as fast as "
        f"{reference}, by medians. The roof was measured in the same run: {rates} (10^9 operations "
        f"a second), and {roof['read_gb_per_s']:.0f} GB read a second. 100 % of it would be the "
        "task's least work at these rates.",
    ]


def _race(race: dict[str, Any]) -> list[str]:
    lines = [
        f"**{race['what'][0].upper()}{race['what'][1:]}**",
        "",
        "| | p50 ms | p90 ms | times as fast (95 %) | of the roof | peak GB | files MB | as the "
        "reference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in race["variants"].values():
        if row["p50_ms"] is None:
            lines.append(f"| {row['what']} | {row['why']} | | | | | | |")
            continue
        lines.append(
            f"| {row['what']} | {row['p50_ms']:.0f} | {row['p90_ms']:.0f} "
            f"| {_spread(row['speed'])} | {row['roof_share']:.0%} "
            f"| {row['peak_memory_bytes'] / 1e9:.2f} | {row['file_bytes'] / 1e6:.0f} "
            f"| {_agreement(row['agreement'])} |"
        )
    return lines


def _agreement(found: dict[str, Any]) -> str:
    if "max_abs_diff" in found:
        return f"within {found['max_abs_diff']:.1g}"
    words = f"{found['same_tokens']}/{found['tokens']} tokens"
    if "forced" not in found:
        return words
    noise = found["forced_psnr_db"]
    told = "exact" if noise is None else f"{noise:.0f} dB"
    return f"{words}; forced {found['forced_same']}/{found['forced']}, {told}"


def _stages(record: dict[str, Any]) -> list[str]:
    lines = [
        "Where the time of ours goes, medians in ms; preparing the decoded picture is in it, which "
        "others had done for them:",
        "",
        "| | " + " | ".join(_STAGES) + " |",
        "|---|" + "---|" * len(_STAGES),
    ]
    for race in record["tasks"].values():
        for row in race["variants"].values():
            if row["p50_ms"] is not None and row["stages_p50_ms"]:
                times = " | ".join(f"{row['stages_p50_ms'][stage]:.1f}" for stage in _STAGES)
                lines.append(f"| {race['what']}: {row['what']} | {times} |")
    return lines


def _goals(record: dict[str, Any]) -> list[str]:
    lines = ["| goal | least | found | |", "|---|---|---|---|"]
    for race in record["tasks"].values():
        for precision, goal in race["goals"].items():
            found = "not measured" if goal["times"] is None else f"{goal['times']:.2f}"
            end = {True: "reached", False: "missed", None: ""}[goal["reached"]]
            lines.append(f"| {race['what']}, {precision} | {goal['least']} | {found} | {end} |")
    return lines


def fastest(records: Sequence[dict[str, Any]]) -> str:
    """For every task the fastest bundle of each precision, from the last record that has it."""
    races = {name: (race, one) for one in records for name, race in one["tasks"].items()}
    how, machine = records[0]["settings"], records[0]["machine"]["cpu"]
    lines = [
        f"| {how['model']}, {how['image_size']} px, {how['threads']} threads of {machine} "
        "| transformers, float32, ms | ours in float32 | ours in 8 bits |",
        "|---|---|---|---|",
    ]
    for race, record in races.values():
        rows = race["variants"]
        reference = rows[record["reference"]]["p50_ms"]
        ours = [_best(rows, precision) for precision in ("fp32", "int8")]
        told = " | ".join(
            f"{o['p50_ms']:.0f} ({o['speed']['times']:.2f} times as fast)" for o in ours
        )
        lines.append(f"| {race['what']} | {reference:.0f} | {told} |")
    return "\n".join([*lines, "", *_limits([race for race, _ in races.values()], records)]) + "\n"


def _limits(races: Sequence[dict[str, Any]], records: Sequence[dict[str, Any]]) -> list[str]:
    """What the table cannot show: how well 8 bits say the same, and which rows ran together."""
    same = []
    for race in races:
        found = _best(race["variants"], "int8")["agreement"]
        if "same_tokens" in found:
            name = ", ".join(race["what"].split(", ")[:2])
            same.append(f"{found['same_tokens']} of {found['tokens']} ({name})")
    lines = [
        "The weights are random, so nothing is claimed of quality. Of the 8-bit column's tokens "
        f"these are the reference's: {', '.join(same)}."
    ]
    together = [
        " and ".join(dict.fromkeys(r["what"].split()[0].strip(",") for r in races if r in ran))
        for ran in ([*record["tasks"].values()] for record in reversed(records))
    ]
    if len(together) > 1:
        lines.append(f"Not all rows ran together: one race timed {', another '.join(together)}.")
    return lines


def _best(rows: dict[str, dict[str, Any]], precision: str) -> dict[str, Any]:
    """The fastest of ours."""
    ours = [
        row
        for row in rows.values()
        if row["what"].startswith("blip-edge") and row.get("precision") == precision
    ]
    return max(ours, key=lambda row: float(row["speed"]["times"]))


def _spread(ratio: dict[str, float]) -> str:
    return f"{ratio['times']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"


def with_tables(page: str, name: str, record: dict[str, Any]) -> str:
    """`page` with the tables of a record between its marks."""
    begin = f"<!-- {name}: written by benchmarks/cpu_inference.py -->\n"
    return between(page, begin, f"<!-- /{name} -->\n", tables(record))


def with_fastest(front: str, records: Sequence[dict[str, Any]]) -> str:
    """`front` with the fastest of ours between its marks."""
    begin = "<!-- speed: written by benchmarks/cpu_inference.py -->\n"
    return between(front, begin, "<!-- /speed -->\n", fastest(records))


def records() -> dict[str, dict[str, Any]]:
    """Those that are committed."""
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in RECORDS.items()}


def write() -> None:
    """Redraw both pages from the committed records."""
    page, found = PAGE.read_text(encoding="utf-8"), records()
    for name, record in found.items():
        page = with_tables(page, name, record)
    PAGE.write_text(page, encoding="utf-8")
    front = with_fastest(FRONT.read_text(encoding="utf-8"), [*found.values()])
    FRONT.write_text(front, encoding="utf-8")
