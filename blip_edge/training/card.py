"""The README.md of a model: what it is, how it came to be, and what it learned from.

Of texts that were bootstrapped it repeats the limits that were measured then: whoever gets the
model does not get the data.
"""

from pathlib import Path
from typing import Any

from blip_edge.artifact import Provenance, read_json
from blip_edge.data.dataset import Dataset
from blip_edge.models.config import Architecture
from blip_edge.models.folder import Model

__all__ = ["write_model_card"]

_DOES: dict[Architecture, tuple[str, str]] = {
    "BlipForConditionalGeneration": (
        "says what pictures show",
        'print(model.caption("photo.jpg").text)',
    ),
    "BlipForImageTextRetrieval": (
        "matches texts with pictures",
        'print(model.match("photo.jpg", ["a dog on a beach"]))',
    ),
    "BlipForQuestionAnswering": (
        "answers questions about pictures",
        'print(model.answer("photo.jpg", "how many dogs are there?").text)',
    ),
    "BlipForPreTraining": (
        "says what pictures show and matches texts with them, and is what tasks start from",
        'print(model.caption("photo.jpg").text)',
    ),
    "BlipForImagesAndTextClassification": (
        "judges sentences about two pictures",
        'print(model.reason("left.jpg", "right.jpg", "both show a dog").label)',
    ),
}


def write_model_card(
    draft: Path, name: str, model: Model, made: Provenance, data: Dataset | None
) -> None:
    """Write README.md into the MODEL folder `draft`, which will be called `name`."""
    does, example = _DOES[model.config.architecture]
    vision, text = model.config.vision_config, model.config.text_config
    count = sum(parameter.numel() for parameter in model.blip.parameters())
    lines = [
        f"# {name}",
        "",
        f"A BLIP that {does}: {count / 1e6:.2f} million parameters, pictures of "
        f"{vision.image_size} pixels in patches of {vision.patch_size}, {vision.num_hidden_layers} "
        f"layers that see ({vision.hidden_size} wide) and {text.num_hidden_layers} that read and "
        f"write ({text.hidden_size} wide), {text.vocab_size:,} words.",
        "",
        "```python",
        "from blip_edge import load",
        "",
        f'model = load("{name}")',
        example,
        "```",
        "",
        "## How it was made",
        "",
        *_made(made, data),
        "",
        "## Limits",
        "",
        f"- It knows what its data shows{_of(data)}; on anything else it guesses.",
        "- It was not measured when it was written: `blip-edge eval` does that.",
        *_bootstrapped(data),
    ]
    (draft / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _made(made: Provenance, data: Dataset | None) -> list[str]:
    recipe = made.recipe
    told = ", ".join(f"{key} {recipe[key]}" for key in ("steps", "batch", "lr") if key in recipe)
    lines = [f"`blip-edge {made.verb}`, blip-edge {made.version}: {told}."]
    if data is not None:
        lines.append(f"Data: {data.name} {data.version}, licence {data.license}.")
    for parent in made.parents:
        lines.append(f"From {Path(parent['path']).name}, sha256 `{parent['sha256']}`.")
    return lines


def _of(data: Dataset | None) -> str:
    return "" if data is None else f" ({data.name})"


def _bootstrapped(data: Dataset | None) -> list[str]:
    """What is known of texts that a captioner wrote and a filter chose."""
    if data is None or not data.has("capfilt.json"):
        return []
    found: dict[str, Any] = read_json(data.folder / "capfilt.json")
    lines = []
    for source, words in (("web", "texts of the web"), ("synthetic", "texts that a model wrote")):
        kind = found[source]
        if not kind["texts"]:
            continue
        line = f"- Of {kind['texts']:,} {words} a filter kept {kind['kept']:,}"
        if "truth" in kind and kind["truth"]["right_of_kept"] is not None:
            line += f"; of those {1 - kind['truth']['right_of_kept']:.1%} are wrong"
        if source == "synthetic":
            line += f"; {1 - kind['diversity']['distinct_captions']:.1%} say what another says"
        lines.append(f"{line}.")
    if disliked := [row["word"] for row in found["disliked"][:5]]:
        lines.append(f"- The filter dropped most of what says {', '.join(disliked)}.")
    return lines
