"""The one door: a folder in, a model that can be asked out.

A bundle runs on the engine of its target, without torch. A model folder runs on torch under the
same search; that engine lives with training and is imported only then. What only an open model
needs is imported when one is opened: a program that may never ask starts at once.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from blip_edge.artifact import kind
from blip_edge.errors import ArtifactError, import_extra

if TYPE_CHECKING:
    from blip_edge.runtime.edge_model import EdgeModel
    from blip_edge.runtime.engine import Engine
    from blip_edge.runtime.manifest import Manifest, Target

__all__ = ["load", "load_bundle"]


def load(folder: Path | str, threads: int | None = None) -> "EdgeModel":
    """Open a bundle or a model folder, whatever it was trained for.

    Args:
        folder: what `export` or any training verb wrote.
        threads: how many the engine may use; its own choice when not given.

    Raises:
        ArtifactError: the folder is neither, or was changed after it was written.
        MissingExtraError: the engine's package is not installed.
    """
    folder = Path(folder)
    what = kind(folder)
    if what == "bundle":
        from blip_edge.runtime.manifest import read_manifest

        return load_bundle(read_manifest(folder), threads=threads)
    if what == "model":
        import_extra("torch", "train")
        # By name: this floor may not import that one.
        model: EdgeModel = import_module("blip_edge.training.engine").open_model(
            folder, threads=threads
        )
        return model
    raise ArtifactError(f"{folder} is a {what} folder; give a model or a bundle")


def load_bundle(manifest: "Manifest", *, threads: int | None = None) -> "EdgeModel":
    """Open a bundle whose manifest was read already; see `load`."""
    from blip_edge.runtime.edge_model import EdgeModel
    from blip_edge.text import Tokenizer

    tokenizer = Tokenizer.load(manifest.tokenizer)
    prompt = [manifest.generation.bos_token_id]
    prompt += tokenizer.prompt_ids(manifest.generation.prompt)[1:]
    if tuple(prompt) != manifest.prompt_ids:
        raise ArtifactError(
            f"{manifest.tokenizer} was changed after export: it gives the prompt other ids than "
            "manifest.json; export again"
        )
    engine = _ENGINES[manifest.target](manifest, threads)
    return EdgeModel(engine, tokenizer, manifest.preprocess, manifest.generation)


def _onnx(manifest: "Manifest", threads: int | None) -> "Engine":
    from blip_edge.runtime.onnx import OnnxEngine

    return OnnxEngine(manifest, threads=threads)


def _openvino(manifest: "Manifest", threads: int | None) -> "Engine":
    from blip_edge.runtime.openvino import OpenVinoEngine

    return OpenVinoEngine(manifest, threads=threads)


def _coreml(manifest: "Manifest", threads: int | None) -> "Engine":
    from blip_edge.runtime.coreml import CoreMLEngine

    return CoreMLEngine(manifest)


def _executorch(manifest: "Manifest", threads: int | None) -> "Engine":
    from blip_edge.runtime.executorch import ExecuTorchEngine

    return ExecuTorchEngine(manifest, threads=threads)


_ENGINES: "dict[Target, Callable[[Manifest, int | None], Engine]]" = {
    "onnx": _onnx,
    "openvino": _openvino,
    "coreml": _coreml,
    "executorch": _executorch,
}
