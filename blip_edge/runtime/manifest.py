"""A bundle's manifest.json, typed and checked: a bundle is what the export wrote, or refused.

Every graph file is hashed when a bundle is opened (about a second per gigabyte), so that a file
damaged in transfer is named, not run.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from blip_edge.artifact import inside, read_json, sha256_file, sha256_folder
from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.engine import Task

__all__ = [
    "FORMAT_VERSION",
    "Cache",
    "Graph",
    "LayerCache",
    "Manifest",
    "Port",
    "StaticCache",
    "Target",
    "graph_bytes",
    "graph_files",
    "graph_sha256",
    "read_manifest",
]

FORMAT_VERSION = 1
Target = Literal["onnx", "openvino", "coreml", "executorch"]


@dataclass(frozen=True)
class Port:
    """An input or output of a graph."""

    shape: tuple[int | str, ...]
    """A name stands for a size that is free."""
    dtype: str


@dataclass(frozen=True)
class Graph:
    """One graph of a bundle."""

    path: Path
    sha256: str
    inputs: dict[str, Port]
    outputs: dict[str, Port]
    function: str | None = None
    """Which of the file's programs it is, where several graphs share one."""
    engine: Target | None = None
    """What runs it, where that is not what the bundle is for."""


@dataclass(frozen=True)
class LayerCache:
    """What one decoder layer keeps; pruned models differ from layer to layer."""

    self_heads: int
    cross_heads: int
    head_dim: int


@dataclass(frozen=True)
class StaticCache:
    """The sizes that a static decoder was built for, or that one may not go beyond."""

    rows: int
    length: int


@dataclass(frozen=True)
class Cache:
    """The decoder's cache."""

    layers: tuple[LayerCache, ...]
    static: StaticCache | None
    """None: rows and tokens are free without bounds."""


@dataclass(frozen=True)
class Manifest:
    """What a runtime needs to know of a bundle; `document` holds the rest."""

    folder: Path
    target: Target
    precision: str
    tasks: tuple[Task, ...]
    graphs: dict[str, Graph]
    preprocess: Preprocess
    tokenizer: Path
    generation: Generation
    prompt_ids: tuple[int, ...]
    max_tokens: int
    """Of any text, as many as the model has positions for; 0 where nothing but captions is read."""
    cache: Cache
    document: dict[str, Any]
    """manifest.json as it is."""

    @property
    def engines(self) -> tuple[Target, ...]:
        """Whatever runs a graph of it: its target first."""
        others = (graph.engine for graph in self.graphs.values() if graph.engine)
        return tuple(dict.fromkeys((self.target, *others)))

    def graph(self, name: str) -> Graph:
        """The graph of that name.

        Raises:
            ArtifactError: the bundle has none.
        """
        if name not in self.graphs:
            raise ArtifactError(f"{self.folder} has no {name} graph; export the model again")
        return self.graphs[name]


def read_manifest(folder: Path, *, check: bool = True) -> Manifest:
    """Read and check the manifest of the bundle in `folder`.

    Args:
        folder: a bundle.
        check: compare the sha256 of every graph file.

    Raises:
        ArtifactError: a field is missing or wrong, a file is missing, was changed after export,
            or lies outside the folder.
    """
    folder = Path(folder)
    source = folder / "manifest.json"
    document = read_json(source)
    if not isinstance(document, dict):
        raise ArtifactError(f"{source} is not a manifest: a JSON object is expected")
    _check_versions(document, source)
    try:
        manifest = _manifest(folder, source, document)
        _check_fits(manifest)
    except KeyError as error:
        raise ArtifactError(f"{source}: the field {error} is missing") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise ArtifactError(f"{source} has a field of the wrong kind: {error}") from None
    for path in [manifest.tokenizer, *(graph.path for graph in manifest.graphs.values())]:
        if not path.exists():
            raise ArtifactError(f"{path} is missing; the manifest names it, export again")
    if check:
        _check_graphs(manifest)
    return manifest


def graph_sha256(path: Path) -> str:
    """The digest that a manifest gives for a graph: of all the bytes that hold it.

    A folder (.mlpackage) counts with everything in it, an OpenVINO .xml together with its .bin, an
    ONNX file together with its .data where it has one.
    """
    if path.is_dir():
        return sha256_folder(path)
    parts = [sha256_file(part) for part in graph_files(path)]
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()


def graph_files(path: Path) -> list[Path]:
    """The file or folder of a graph, and the one beside it that holds its weights, if any."""
    if path.suffix == ".xml":
        return [path, path.with_suffix(".bin")]
    data = path.with_name(f"{path.name}.data")
    return [path, data] if path.suffix == ".onnx" and data.exists() else [path]


def graph_bytes(document: Mapping[str, Any]) -> int:
    """All graph files of a manifest's `document`; one that graphs share counts once.

    Raises:
        KeyError: a graph has no file or no size there.
    """
    return sum({row["file"]: int(row["bytes"]) for row in document["graphs"].values()}.values())


def _check_versions(document: dict[str, Any], source: Path) -> None:
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{source} has format_version {version!r}, this version reads {FORMAT_VERSION}; "
            "export the model again"
        )
    target = document.get("target")
    if target not in get_args(Target):
        known = ", ".join(get_args(Target))
        raise ArtifactError(f"{source}: unknown target {target!r}; this version runs {known}")


def _check_fits(manifest: Manifest) -> None:
    """Whether what is fed to the graphs is what they take, so that no engine stumbles over it.

    Raises:
        ValueError: it is not.
    """
    for name, graph in manifest.graphs.items():
        if not graph.inputs or not graph.outputs:
            raise ValueError(f"{name} has no inputs or no outputs")
    if "vision" in manifest.graphs:
        _check_pictures(manifest.graphs["vision"], manifest.preprocess.size)
    if "decoder" in manifest.graphs:
        _check_decoder(manifest.graphs["decoder"], manifest)


def _check_pictures(vision: Graph, size: int) -> None:
    for name, port in vision.inputs.items():
        if port.shape[1:] != (3, size, size) or not isinstance(port.shape[0], int):
            raise ValueError(f"pictures of {size}x{size}, but {name} is {list(port.shape)}")


def _check_decoder(decoder: Graph, manifest: Manifest) -> None:
    if decoder.engine is not None:
        raise ValueError(f"{decoder.engine} runs every graph but the decoder")
    layers = manifest.cache.layers
    shapes = [port.shape for name, port in decoder.inputs.items() if name.startswith("past_key_")]
    keeps = [(layer.self_heads, layer.head_dim) for layer in layers]
    # A decoder that keeps its cache to itself has no such inputs.
    if not layers or (shapes and [(shape[1], shape[3]) for shape in shapes] != keeps):
        raise ValueError(f"cache.layers {keeps} are not the decoder's: {shapes}")
    words = decoder.outputs["logits"].shape[-1]
    search = manifest.generation
    ids = (search.bos_token_id, search.eos_token_id, search.pad_token_id, *manifest.prompt_ids)
    for token in ids:
        if token < 0 or (isinstance(words, int) and token >= words):
            raise ValueError(f"the token {token} is none of the decoder's {words}")


def _check_graphs(manifest: Manifest) -> None:
    digests: dict[Path, str] = {}  # graphs may share a file
    for graph in manifest.graphs.values():
        if graph.path.suffix == ".xml" and not graph.path.with_suffix(".bin").is_file():
            raise ArtifactError(f"{graph.path.with_suffix('.bin')} is missing; export again")
        if graph.path not in digests:
            digests[graph.path] = graph_sha256(graph.path)
        if digests[graph.path] != graph.sha256:
            raise ArtifactError(
                f"{graph.path} was changed after export: sha256 differs; export again"
            )


def _manifest(folder: Path, source: Path, document: dict[str, Any]) -> Manifest:
    decode = document["decode"]
    return Manifest(
        folder=folder,
        target=document["target"],
        precision=str(document["precision"]),
        tasks=_tasks(document["tasks"]),
        graphs={
            name: _graph(folder, graph, document["target"])
            for name, graph in document["graphs"].items()
        },
        preprocess=Preprocess.from_json(document["preprocess"], source=source),
        tokenizer=inside(folder, document["tokenizer"]),
        generation=Generation.from_json(decode, source=source),
        prompt_ids=tuple(int(token) for token in decode["prompt_ids"]),
        max_tokens=int(document.get("max_position_embeddings", 0)),
        cache=_cache(document["cache"]),
        document=document,
    )


def _tasks(names: list[str]) -> tuple[Task, ...]:
    unknown = [name for name in names if name not in get_args(Task)]
    if unknown or not names:
        raise ValueError(f"tasks {names} are not of {', '.join(get_args(Task))}")
    return tuple(names)  # type: ignore[arg-type]


def _graph(folder: Path, graph: dict[str, Any], target: Target) -> Graph:
    engine = graph.get("engine")
    if engine is not None and (target, engine) != ("onnx", "openvino"):
        raise ValueError(f"graphs for {target} cannot be run by {engine!r}")
    return Graph(
        path=inside(folder, graph["file"]),
        sha256=str(graph["sha256"]),
        inputs=_ports(graph["inputs"]),
        outputs=_ports(graph["outputs"]),
        function=None if graph.get("function") is None else str(graph["function"]),
        engine=engine,
    )


def _ports(ports: dict[str, Any]) -> dict[str, Port]:
    return {
        name: Port(
            tuple(size if isinstance(size, int) else str(size) for size in port["shape"]),
            str(port["dtype"]),
        )
        for name, port in ports.items()
    }


def _cache(cache: dict[str, Any]) -> Cache:
    static = cache["static"]
    return Cache(
        layers=tuple(
            LayerCache(int(layer["self_heads"]), int(layer["cross_heads"]), int(layer["head_dim"]))
            for layer in cache["layers"]
        ),
        static=None if static is None else StaticCache(int(static["rows"]), int(static["length"])),
    )
