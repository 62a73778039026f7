"""The README.md of a bundle: what it is, what runs it, and what was measured, for whoever finds it
on a device two years later."""

from typing import Any

__all__ = ["card"]

_RUNTIMES = {
    "onnx": "ONNX Runtime (any platform; operator set and IR that its mobile and web builds read)",
    "openvino": "OpenVINO (Intel CPUs, GPUs and NPUs; Arm CPUs)",
    "coreml": "Core ML (iOS {ios}, macOS {macos} and later)",
    "executorch": "ExecuTorch with its XNNPACK backend (Android, iOS, embedded Linux, desktops)",
}
_ABILITIES = {
    "caption": "caption pictures",
    "retrieval": "match texts with pictures",
    "vqa": "answer questions",
    "nlvr2": "judge sentences about two pictures",
}
_EXAMPLES = {
    "caption": 'print(model.caption("photo.jpg").text)',
    "retrieval": 'print(model.match("photo.jpg", ["a dog on a beach"]))',
    "vqa": 'print(model.answer("photo.jpg", "how many dogs are there?").text)',
    "nlvr2": 'print(model.reason("left.jpg", "right.jpg", "both show a dog").label)',
}


def card(name: str, manifest: dict[str, Any]) -> str:
    """The model card of the bundle `name`, in Markdown."""
    preprocess, source = manifest["preprocess"], manifest["source"]
    size, tasks = preprocess["size"], manifest["tasks"]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"A BLIP to {' and '.join(_ABILITIES[task] for task in tasks)}, for "
            f"{manifest['target']} in {manifest['precision']}{_palettes(manifest)}. "
            f"Runs on {_runtime(manifest)}.",
            "",
            "```python",
            "from blip_edge import load",
            "",
            f'model = load("{name}")',
            *(_EXAMPLES[task] for task in tasks),
            "```",
            "",
            "## Graphs",
            "",
            "| graph | file | bytes | products with integers | in floating point |",
            "|---|---|---|---|---|",
            *(_graph(graph, row) for graph, row in manifest["graphs"].items()),
            "",
            "`vision` runs once per picture; the others read what it gives. Names, shapes and "
            "types of all inputs and outputs: `manifest.json`.",
            "",
            "## Input and search",
            "",
            f"Pictures: RGB, squashed to {size['width']}x{size['height']} (Pillow's bicubic), "
            "divided by 255, "
            f"mean {preprocess['image_mean']}, deviation {preprocess['image_std']}.",
            "",
            *_search(manifest),
            "## Measured against torch when it was exported",
            "",
            "| graph | output | largest difference | PSNR, dB |",
            "|---|---|---|---|",
            *_parity(manifest["parity"]),
            "",
            *_agreement(manifest["agreement"]),
            *_task_metrics(manifest["task_metrics"]),
            "`blip-edge verify` repeats the measurement on a device from the files in `golden/`; "
            "`sha256sum -c SHA256SUMS` says whether any file was changed.",
            "",
            *_tuned(manifest.get("tuned", [])),
            *_notes(manifest.get("notes", [])),
            "## Source",
            "",
            f"Model sha256 `{source['model_sha256']}`, written by "
            + ", ".join(f"{package} {version}" for package, version in source["versions"].items())
            + ".",
            "",
        ]
    )


def _runtime(manifest: dict[str, Any]) -> str:
    ios = manifest["ios"] or 0
    others = sorted({row["engine"] for row in manifest["graphs"].values() if "engine" in row})
    also = f", and every graph but the decoder on {_RUNTIMES[others[0]]}" if others else ""
    return _RUNTIMES[manifest["target"]].format(ios=ios, macos=ios - 3) + also


def _palettes(manifest: dict[str, Any]) -> str:
    bits = manifest["palette_bits"]
    return f", its weights looked up in palettes of {2**bits} values" if bits else ""


def _search(manifest: dict[str, Any]) -> list[str]:
    decode = manifest["decode"]
    if "decoder" not in manifest["graphs"]:
        return []
    words = (
        f"Words start from token ids {decode['prompt_ids']} ({decode['prompt']!r}); "
        f"{decode['num_beams']} beams, {decode['min_length']} to {decode['max_length']} tokens "
        "counting the prompt."
    )
    return [words, ""]


def _agreement(agreement: dict[str, dict[str, int]]) -> list[str]:
    return [
        f"Of {task}, {row['same']} of {row['compared']} results are torch's, word for word."
        for task, row in agreement.items()
        if task != "retrieval"  # there nothing is said
    ]


def _task_metrics(found: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"On {row['items']} items of {row['data']['name']}'s {row['split']}: {row['name']} "
        f"{row['bundle']:.4g}, torch's {row['torch']:.4g}."
        for row in found.values()
    ]


def _graph(name: str, row: dict[str, Any]) -> str:
    ops = row["ops"]
    file = f"`{row['file']}`"
    if row.get("function"):
        file = f"function `{row['function']}` of {file}"
    return f"| {name} | {file} | {row['bytes']:,} | {ops['int8']} | {ops['float']} |"


def _parity(parity: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    return [
        f"| {graph} | {output} | {row['max_abs_diff']:.2g} | {row['psnr_db']:.1f} |"
        for graph, outputs in parity.items()
        for output, row in outputs.items()
    ]


def _tuned(rows: list[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    return [
        "## Chosen by measuring",
        "",
        "Milliseconds, in the middle, of all golden tasks on the machine that exported it.",
        "",
        "| form | ms | bytes | dB from the float model | |",
        "|---|---|---|---|---|",
        *map(_candidate, rows),
        "",
    ]


def _candidate(row: dict[str, Any]) -> str:
    taken = "" if row["p50_ms"] is None else f"{row['p50_ms']:g}"
    verdict = "**this one**" if row["chosen"] else row["problem"]
    near = f"{row['float_psnr_db']:.1f}"
    return f"| {row['form']} | {taken} | {row['bytes']:,} | {near} | {verdict} |"


def _notes(notes: list[str]) -> list[str]:
    return ["## Notes", "", *(f"- {note}" for note in notes), ""] if notes else []
