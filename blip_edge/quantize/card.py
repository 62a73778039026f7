"""What a quantized model's README says of its quantization."""

from pathlib import Path

from blip_edge.models.quantized import Quantization

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
    data = quantization.data or {}
    share = f"{len(quantization.int8_layers)} of {len(quantization.layers)}"
    lines = [
        _HEADING,
        "",
        f"{share} linear layers compute with 8-bit weights (symmetric, per output "
        f"channel) and 8-bit inputs (affine, per tensor; {quantization.observer} over "
        f"{quantization.samples} pictures of {data.get('name')}); the rest is float32. The weights "
        "in this folder are float32, `quantization.json` says how they are rounded.",
        "",
        f"Weights: {quantization.weight_bytes:,} bytes instead of "
        f"{quantization.float_weight_bytes:,}.",
    ]
    if found := quantization.metric:
        lines += [
            "",
            f"| {found['name']}, {found['split']}, {found['items']} items | |",
            "|---|---|",
            f"| float32 | {found['float']:.2f} |",
            f"| int8 | {found['int8']:.2f} |",
        ]
    return "\n".join(lines) + "\n"
