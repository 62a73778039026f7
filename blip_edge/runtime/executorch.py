"""Bundles of ExecuTorch programs on XNNPACK's kernels.

On a phone they need ExecuTorch's C++, Java or Swift library alone. Its Python bindings, which run
them here, hand over torch's tensors, so that this engine, unlike the others, imports torch when a
bundle is opened.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np

from blip_edge.errors import ArtifactError, UsageError, import_extra
from blip_edge.runtime.engine import F32, I32, Session
from blip_edge.runtime.graph_engine import GraphEngine, Values
from blip_edge.runtime.manifest import Graph, LayerCache, Manifest, StaticCache
from blip_edge.runtime.prefill import SharedPrompt, empty_cache, shares_prompt

__all__ = ["ExecuTorchEngine", "ExecuTorchRunner"]

# R rows, or texts · T text tokens · P past tokens · V vocabulary


class ExecuTorchEngine(GraphEngine):
    """A BLIP on ExecuTorch.

    Args:
        manifest: of a bundle exported for ExecuTorch.
        threads: how many it may use, its own choice when not given; a process has one pool.

    Raises:
        UsageError: another number of threads than the process uses already.
    """

    def __init__(self, manifest: Manifest, *, threads: int | None = None) -> None:
        if "decoder" in manifest.graphs and manifest.cache.static is None:
            raise ArtifactError(
                f"{manifest.folder}/manifest.json gives an ExecuTorch decoder no bounds; "
                "export the model again"
            )
        if threads is not None:
            _use(threads)
        super().__init__(manifest, ExecuTorchRunner, lambda tensor: tensor.numpy())
        self._bounds = manifest.cache.static or StaticCache(0, 0)
        self._layers = manifest.cache.layers
        self.max_tokens = min([self.max_tokens, *(t for _, t in self._texts().values())])

    @property
    def max_rows(self) -> int:
        """Rows that the decoder was exported for."""
        return self._bounds.rows

    @property
    def max_length(self) -> int:
        """Tokens that the decoder's cache holds."""
        return self._bounds.length

    def run(self, name: str, feeds: Mapping[str, Any]) -> Values:
        """Outputs of a graph; texts are split where they are more than it holds."""
        rows, _ = self._texts().get(name, (0, 0))
        if not rows or len(feeds["input_ids"]) <= rows:
            return super().run(name, feeds)
        first = {**feeds, **{key: feeds[key][:rows] for key in _TEXT_PORTS}}
        rest = {**feeds, **{key: feeds[key][rows:] for key in _TEXT_PORTS}}
        halves = super().run(name, first), self.run(name, rest)
        torch = import_extra("torch", "executorch")
        return {port: torch.cat([half[port] for half in halves]) for port in halves[0]}

    def start(self, cross: Values, rows: int) -> Session:
        """Begin a search of `rows` rows, all of the one picture or question.

        Raises:
            UsageError: more rows than the decoder was exported for.
        """
        if rows > self._bounds.rows:
            raise UsageError(f"this bundle has {self._bounds.rows} rows, not {rows}")
        graph = self._manifest.graph("decoder")
        if shares_prompt(graph) and rows > 1:
            return SharedPrompt(self.start(cross, 1), rows)
        read = {name: cross[name] for name in graph.inputs if name in cross}
        runner = self.runner("decoder")
        return _ExecuTorchSession(runner, read, self._layers, rows, self._bounds.length)

    def _texts(self) -> dict[str, tuple[int, int]]:
        """(R, T) that the graphs which read texts hold at most."""
        return {
            name: self.runner(name).bounds("input_ids")
            for name, graph in self._manifest.graphs.items()
            if "attention_mask" in graph.inputs
        }


class ExecuTorchRunner:
    """One program, open.

    Raises:
        ArtifactError: ExecuTorch cannot open it.
        MissingExtraError: executorch, or the torch that its Python bindings need, is missing.
    """

    def __init__(self, graph: Graph) -> None:
        self._torch = import_extra("torch", "executorch")
        self._method = _method(graph.path)
        self._inputs, self._outputs = tuple(graph.inputs), tuple(graph.outputs)

    def __call__(self, feeds: Mapping[str, Any]) -> Values:
        made = self._method.execute([self._tensor(feeds[name]) for name in self._inputs])
        return dict(zip(self._outputs, made, strict=True))

    def bounds(self, name: str) -> tuple[int, ...]:
        """The largest shape of an input."""
        meta = self._method.metadata.input_tensor_meta(self._inputs.index(name))
        return tuple(meta.sizes())

    def _tensor(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if not value.size:  # numpy gives it strides that ExecuTorch aborts at
                return self._torch.empty(value.shape)
            return self._torch.from_numpy(np.require(value, requirements=["C", "W"]))
        return value


class _ExecuTorchSession:
    def __init__(
        self,
        decoder: ExecuTorchRunner,
        cross: Values,
        layers: tuple[LayerCache, ...],
        rows: int,
        length: int,
    ) -> None:
        self._decoder = decoder
        self._cross = cross
        self._past: Values = dict(empty_cache(layers, rows))
        self._room = length

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        self._room -= input_ids.shape[1]
        if self._room < 0:
            raise UsageError("this bundle's cache is full; export with a larger length")
        outputs = self._decoder(
            {"input_ids": input_ids, "beam_idx": beam_idx, **self._past, **self._cross}
        )
        self._past = {name: outputs[name.replace("past", "present")] for name in self._past}
        logits: F32 = outputs["logits"].numpy()
        return logits


_BINDINGS = "executorch.extension.pybindings.portable_lib"
_TEXT_PORTS = ("input_ids", "attention_mask")
_opened: set[Path] = set()
"""Programs that this process has opened."""


def _use(threads: int) -> None:
    """Set the size of the process's pool, while there is no program: an open one keeps its pool."""
    library = import_extra(_BINDINGS, "executorch")
    with _no_talk():
        now = library._threadpool_get_thread_count()
        if threads != now and not _opened:
            library._unsafe_reset_threadpool(threads)
            now = threads
    if threads != now:
        raise UsageError(
            f"ExecuTorch uses {now} threads in this process already; {threads} need another one"
        )


def _method(path: Path) -> Any:
    runtime = import_extra("executorch.runtime", "executorch").Runtime.get()
    with _no_talk():
        import_extra(_BINDINGS, "executorch")._threadpool_get_thread_count()  # starts it
        try:
            method = runtime.load_program(path).load_method("forward")
            _opened.add(path)
            return method
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
    raise ArtifactError(f"{path}: ExecuTorch cannot open it: {reason}")


@contextmanager
def _no_talk() -> Iterator[None]:
    """Keep what ExecuTorch's own code says of the processor off stderr, which is for us."""
    kept = os.dup(2)
    # Some of it is written to the file, some handed to Python.
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
