"""8 bits at full size, read off the race of `cpu_inference.py`: what each stage gains.

    python benchmarks/full_size_table.py    # results/cpu-inference.json -> quantize/README.md

Medians of the stages of a greedy caption, all variants in turns in one run.
"""

from typing import Any

from runs import ROOT, between, read

RECORD = ROOT / "benchmarks" / "results" / "cpu-inference.json"
PAGE = ROOT / "quantize" / "README.md"
BEGIN = "<!-- full size: written by benchmarks/full_size_table.py -->\n"
END = "<!-- /full size -->\n"
TASK = "caption-greedy"
ENGINES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
VISION_OVER_ONNX = {"onnx": 2.0, "openvino": 2.9}
"""Least gain of the image tower over ONNX Runtime in float32."""
STEP_OVER_ITSELF = {"onnx": 1.4, "openvino": 1.7}
LARGEST = 0.30
"""Of the graph files, as a share of float32's."""


def table(kept: dict[str, Any]) -> str:
    """What the race says of both engines, in Markdown."""
    variants, settings = kept["tasks"][TASK]["variants"], kept["settings"]
    plain = variants["onnx-fp32"]["stages_p50_ms"]["vision"]
    lines = [
        f"{settings['model']}, {settings['image_size']} px, random weights, "
        f"{settings['threads']} threads of {kept['machine']['cpu']}: medians of "
        f"{settings['rounds']} rounds in turns, in ms, and 40 dictated tokens.",
        "",
        "| | image tower, float32 | in 8 bits | times ONNX Runtime's float32 | all steps, float32 "
        "| in 8 bits | times | files | same first choices |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for engine, name in ENGINES.items():
        before, after = (variants[f"{engine}-{precision}"] for precision in ("fp32", "int8"))
        was, now = before["stages_p50_ms"], after["stages_p50_ms"]
        seen = _gain(plain / now["vision"], VISION_OVER_ONNX[engine])
        said = _gain(was["steps"] / now["steps"], STEP_OVER_ITSELF[engine])
        share = after["file_bytes"] / before["file_bytes"]
        size = f"{share:.2f}{'' if share <= LARGEST else ', **missed**'} (goal {LARGEST:.2f})"
        agreed = after["agreement"]
        lines.append(
            f"| {name} | {was['vision']:.0f} | {now['vision']:.0f} | {seen} | {was['steps']:.0f} "
            f"| {now['steps']:.0f} | {said} | {size} "
            f"| {agreed['forced_same']} of {agreed['forced']} |"
        )
    return "\n".join(lines) + "\n"


def _gain(times: float, goal: float) -> str:
    return f"{times:.2f}{'' if times >= goal else ', **missed**'} (goal {goal})"


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the table of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), read(RECORD)), encoding="utf-8")
