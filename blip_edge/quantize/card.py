"""What a quantized model's README says of its quantization."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from blip_edge.models.quantized import Quantization, is_table

__all__ = ["write_card"]

_README = "README.md"
_HEADING = "## Quantization"


def write_card(draft: Path, parent: Path, quantization: Quantization) -> None:
    """Write README.md: the one in `draft`, else the parent's, with a section on quantization."""
    readme = next((f / _README for f in (draft, parent) if (f / _README).is_file()), None)
    text = f"# {parent.name}\n" if readme is None else readme.read_text(encoding="utf-8")
    before = text.split(_HEADING)[0].rstrip()  # an earlier quantization no longer holds
    (draft / _README).write_text(f"{before}\n\n{_section(quantization)}", encoding="utf-8")


def _section(quantization: Quantization) -> str:
    share = f"{len(quantization.int8_layers)} of {len(quantization.layers)}"
    lines = [
        _HEADING,
        "",
        f"{share} layers have integers for weights; the rest is float32:",
        "",
        *_forms(quantization),
        "",
        "The weights in this folder are float32, `quantization.json` says how they are rounded.",
        "",
        f"Weights: {quantization.weight_bytes:,} bytes instead of "
        f"{quantization.float_weight_bytes:,}.",
    ]
    if quantization.mode == "qat":
        lines += ["", "They were trained to be rounded, the float model being the teacher."]
    if quantization.smoothing is not None:
        lines += ["", *_smoothing(quantization.smoothing)]
    if found := quantization.metric:
        lines += [
            "",
            f"| {found['name']}, {found['split']}, {found['items']} items | |",
            "|---|---|",
            f"| float32 | {found['float']:.2f} |",
            f"| {quantization.precision} | {found['int8']:.2f} |",
        ]
    return "\n".join(lines) + "\n"


def _smoothing(alphas: Mapping[str, float | None]) -> list[str]:
    chosen = {path: alpha for path, alpha in alphas.items() if alpha is not None}
    lines = [
        f"Before that, at {len(chosen)} of {len(alphas)} places that allow it, part of what makes "
        "inputs hard to round was moved into the weights (SmoothQuant; the float model computes "
        "what it did)" + (":" if chosen else "."),
    ]
    if not chosen:
        return lines
    rows = [f"| {path} | {alpha:g} |" for path, alpha in chosen.items()]
    return [*lines, "", "| divided | α |", "|---|---|", *rows]


def _forms(quantization: Quantization) -> list[str]:
    """A line for each kind of layer, the most frequent first."""
    kinds = Counter(_kind(path, quantization) for path in quantization.int8_layers)
    return [f"- {count} with {kind}" for kind, count in kinds.most_common()]


def _kind(path: str, quantization: Quantization) -> str:
    layer = quantization.layers[path]
    if is_table(path):
        return f"{layer.weight_bits}-bit words, which are looked up"
    if layer.weight_bits == 4:
        return f"4-bit weights (symmetric, a scale for {layer.group_size} inputs), inputs in float"
    weights = "8-bit weights (symmetric, per output channel)"
    if layer.form == "weight-only":
        return f"{weights}, inputs in float"
    if layer.form == "dynamic":
        return f"{weights} and 8-bit inputs (affine, per tensor, range found at each run)"
    data = quantization.data or {}
    return (
        f"{weights} and 8-bit inputs (affine, per tensor; {_found(quantization)} over "
        f"{quantization.samples} samples of {data.get('name')})"
    )


def _found(quantization: Quantization) -> str:
    by = "" if quantization.engine == "blip-edge" else f" by {quantization.engine}"
    return f"{quantization.observer}{by}"
