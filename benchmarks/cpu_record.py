"""What `cpu_inference.py` writes down of one task: times, memory, agreement, goals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from cpu_tasks import TASKS, UNSAID
from cpu_workers import VARIANTS
from numpy.typing import NDArray

from blip_edge.benchmarks.stats import ratio, summarise

REFERENCE = "hf-fp32"
# Sums in another order; of logits and unit vectors.
CLOSE = 1e-3


def unmeasured(why: str) -> dict[str, Any]:
    """In place of a row: an honest null."""
    return {"p50_ms": None, "why": f"not measured: {why}"}


def race_of(
    task: str,
    checks: dict[str, dict[str, Any]],
    agreements: dict[str, dict[str, Any]],
    rows: dict[str, list[dict[str, Any]]],
    missing: dict[str, dict[str, Any]],
    floors: dict[str, float],
) -> dict[str, Any]:
    """The record of one task. `checks` are first answers, `agreements` what they share with the
    reference's, `rows` timed ones."""
    reference = [row["wall_ms"] for row in rows[REFERENCE]]
    variants = {}
    for name, variant in VARIANTS.items():
        if name in missing:
            variants[name] = {"what": variant.what, **missing[name]}
        elif name in rows:
            floor = floors[variant.precision]
            variants[name] = {
                "what": variant.what,
                "precision": variant.precision,
                **_times(rows[name], reference, floor),
                "file_bytes": checks[name]["file_bytes"],
                "agreement": agreements[name],
            }
    return {
        "what": TASKS[task].what,
        "floor_ms": floors,
        "variants": variants,
        "goals": {
            precision: _goal(least, precision, variants)
            for precision, least in TASKS[task].goals.items()
        },
    }


def _times(rows: Sequence[dict[str, Any]], reference: list[float], floor: float) -> dict[str, Any]:
    wall = [row["wall_ms"] for row in rows]
    faster, stats = ratio(wall, reference), summarise(wall)
    stages = {
        stage: round(float(np.median([row["stages"][stage] for row in rows])), 3)
        for stage in rows[0]["stages"]
    }
    return {
        **stats.to_json(),
        "cpu_p50_ms": round(float(np.median([row["cpu_ms"] for row in rows])), 1),
        "speed": {"times": faster.ratio, "low": faster.low, "high": faster.high},
        "roof_share": round(floor / stats.p50_ms, 4),
        "stages_p50_ms": stages or None,
        "peak_memory_bytes": int(max(row["peak_bytes"] for row in rows)),
        "wall_ms": [round(value, 2) for value in wall],
    }


def agreement(name: str, checks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How far a variant answers as the reference does; ours in float32 must, or the run ends."""
    expected, got = checks[REFERENCE]["answer"], checks[name]["answer"]
    must = VARIANTS[name].what.startswith("blip-edge") and VARIANTS[name].precision == "fp32"
    found: dict[str, Any]
    if isinstance(expected[0], str):
        same = sum(one == other for one, other in zip(expected, got, strict=False))
        found = {"tokens": len(expected), "same_tokens": same}
        wrong = same < len(expected)
    else:
        worst = float(np.abs(np.array(got) - np.array(expected)).max())
        found = {"max_abs_diff": worst}
        wrong = not worst <= CLOSE
    if must and wrong:
        raise SystemExit(f"error: {name} does not compute what {REFERENCE} does: {found}")
    if checks[name]["forced"] is not None:
        found |= _forced(*(np.load(checks[one]["forced"]) for one in (REFERENCE, name)))
    return found


def _forced(expected: NDArray[np.float32], got: NDArray[np.float32]) -> dict[str, Any]:
    """Logits (T, V) after tokens that were given: signal to noise, and same first choices."""
    # Their logits are far from all others and would hide the errors of these.
    expected, got = (np.delete(logits, UNSAID, axis=1) for logits in (expected, got))
    noise = float(np.square(got - expected).mean())
    peak = float(np.abs(expected).max())
    return {
        "forced_psnr_db": round(10 * np.log10(peak**2 / noise), 2) if noise else None,
        "forced": len(expected),
        "forced_same": int((expected.argmax(axis=1) == got.argmax(axis=1)).sum()),
    }


def _goal(least: float, precision: str, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fastest of ours in that precision, and whether it is fast enough."""
    ours = {
        name: row["speed"]["times"]
        for name, row in variants.items()
        if row["what"].startswith("blip-edge")
        and row.get("precision") == precision
        and row["p50_ms"] is not None
    }
    if not ours:
        return {"least": least, "times": None, "reached": None}
    best = max(ours, key=ours.__getitem__)
    return {"least": least, "times": ours[best], "by": best, "reached": ours[best] >= least}
