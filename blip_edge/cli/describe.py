"""What a folder is, read from its own files and without torch."""

from pathlib import Path
from typing import Any

from blip_edge.artifact import folder_bytes, kind, read_json, read_provenance
from blip_edge.errors import ArtifactError

__all__ = ["ancestors", "ask_of", "describe", "parameters"]

_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")

# What a model is asked to do first.
_TASKS = {
    "BlipForImageTextRetrieval": "retrieval",
    "BlipForQuestionAnswering": "vqa",
    "BlipForImagesAndTextClassification": "nlvr2",
}


def describe(folder: Path) -> dict[str, Any]:
    """Kind, sizes, quality, latency and ancestors of a folder that a verb wrote.

    A bundle's graph files are compared with their checksums on the way.

    Raises:
        ArtifactError: it is none of ours, or a file in it is missing or damaged.
    """
    what = kind(folder)
    facts: dict[str, Any] = {"folder": str(folder), "kind": what, "bytes": folder_bytes(folder)}
    match what:
        case "model":
            facts |= _model(folder)
        case "bundle":
            facts |= _bundle(folder)
        case "data":
            facts |= _data(folder)
        case "run":
            facts["summary"] = _object(folder / "summary.json")
        case "index":
            document = _object(folder / "index.json")
            facts |= {key: document.get(key) for key in ("model", "pictures")}
            facts["images"] = len(document.get("images") or [])
    if (folder / "provenance.json").is_file():
        facts["made_by"] = ancestors(folder)
    return facts


def parameters(weights: Path) -> int:
    """How many numbers a safetensors file holds, told by its header alone.

    Raises:
        ArtifactError: it is missing, truncated or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="numpy") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{weights} cannot be read as safetensors: {error}") from None
    total = 0
    for shape in shapes:
        count = 1
        for side in shape:
            count *= side
        total += count
    return total


def ask_of(folder: Path) -> tuple[str | Path, ...]:
    """The words that ask a model or a bundle what it was made for."""
    facts = describe(folder)
    task = (facts.get("tasks") or [_TASKS.get(str(facts.get("architecture")), "caption")])[0]
    asked: dict[str, tuple[str | Path, ...]] = {
        "caption": ("caption", folder, "photo.jpg"),
        "retrieval": ("match", folder, "photo.jpg", "a photo of a dog"),
        "vqa": ("vqa", folder, "photo.jpg", "what is it?"),
        "nlvr2": ("reason", folder, "left.jpg", "right.jpg", "both are dogs"),
    }
    return asked[task]


def ancestors(folder: Path) -> list[dict[str, Any]]:
    """What made `folder`, then what made its first parent, and so on while they are still there."""
    chain: list[dict[str, Any]] = []
    here: Path | None = folder
    known: set[Path] = set()
    while here is not None and (here / "provenance.json").is_file():
        if here.resolve() in known:  # it took the place of its own parent
            break
        known.add(here.resolve())
        made = read_provenance(here)
        chain.append(
            {
                "verb": made.verb,
                "folder": str(here),
                "seconds": made.seconds,
                "version": made.version,
                "data": made.data,
                "parents": made.parents,
                "recipe": made.recipe,
            }
        )
        parent = made.parents[0]["path"] if made.parents else None
        here = Path(parent) if parent is not None else None
    return chain


def _object(path: Path) -> dict[str, Any]:
    document = read_json(path)
    if not isinstance(document, dict):
        raise ArtifactError(f"{path} is damaged: it holds no JSON object")
    return document


def _model(folder: Path) -> dict[str, Any]:
    config = _object(folder / "config.json")
    facts: dict[str, Any] = {
        "model_type": config.get("model_type"),
        "architecture": next(iter(config.get("architectures") or []), None),
        "parameters": parameters(folder / "model.safetensors"),
    }
    for tower in ("vision", "text"):
        sizes = config.get(f"{tower}_config") or {}
        extra = "image_size" if tower == "vision" else "vocab_size"
        facts[tower] = {key: sizes.get(key) for key in (extra, *_SIZES)}
    for name in ("metrics", "quantization"):
        if (folder / f"{name}.json").is_file():
            facts[name] = _object(folder / f"{name}.json")
    return facts


def _bundle(folder: Path) -> dict[str, Any]:
    from blip_edge.runtime.manifest import read_manifest

    document = read_manifest(folder).document
    facts = {key: document.get(key) for key in ("target", "precision", "tasks", "quality")}
    facts["graphs"] = {
        name: {key: graph.get(key) for key in ("file", "bytes", "ops")}
        for name, graph in document["graphs"].items()
    }
    facts["parity"] = document.get("parity")
    facts["latency"] = document.get("latency") or []
    facts["source"] = document.get("source")
    return facts


def _data(folder: Path) -> dict[str, Any]:
    facts = _object(folder / "dataset.json")
    return {"dataset": facts, "files": sorted(path.name for path in folder.glob("*.json"))}
