"""A saved .mlpackage, evaluated in numpy where there is no Core ML.

An export made on Linux cannot be run there by Core ML, but it can be read back: coremltools parses
the saved program and its weight file, palettes and int8 included, and this module computes it
operation by operation. It says whether the file holds the right network. It says nothing of
Core ML itself: no float16 overflow, no Neural Engine, no latency.

    program = MilProgram("bundle/vision.mlpackage")
    program({"pixel_values": pixels})["cross_key_0"]
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import ArtifactError, import_extra
from blip_edge.runtime import mil_shapes
from blip_edge.runtime.mil_ops import OPERATIONS

__all__ = ["MilProgram"]

assert mil_shapes  # imported for the operations that it registers

Array = NDArray[Any]
_Name = str | tuple[str, ...]


@dataclass
class _Step:
    """One operation: a function, the names of its arguments, and where its results go."""

    kind: str
    function: Callable[..., Any]
    arguments: dict[str, _Name]
    outputs: tuple[str, ...]
    spent: tuple[str, ...] = ()
    """Values that no later step reads."""


class MilProgram:
    """One function of an ML program.

    Args:
        path: the .mlpackage.
        function: which, of a file with several; its default if not given.

    Raises:
        ArtifactError: the package cannot be read, has no such function, or has an operation that is
            not known here.
        MissingExtraError: coremltools is not installed.
    """

    def __init__(self, path: Path | str, function: str | None = None) -> None:
        self.path = Path(path)
        found = _read(self.path, function)
        self.states: dict[str, tuple[int, ...]] = {
            var.name: tuple(map(int, var.sym_type.wrapped_type().get_shape()))
            for var in found.inputs.values()
            if _is_state(var)
        }
        """Sizes of what the program keeps from one call to the next."""
        self.inputs: tuple[str, ...] = tuple(
            var.name for var in found.inputs.values() if not _is_state(var)
        )
        self.outputs: tuple[str, ...] = tuple(var.name for var in found.outputs)
        self._constants: dict[str, Any] = {}
        self._steps = [step for step in map(self._step, found.operations) if step is not None]
        _find_spent(self._steps, {*self.outputs, *self._constants})

    def make_state(self) -> dict[str, Array]:
        """Fresh state, all zeros; float16, which is all that Core ML keeps."""
        return {name: np.zeros(shape, np.float16) for name, shape in self.states.items()}

    def __call__(
        self, inputs: Mapping[str, Array], state: dict[str, Array] | None = None
    ) -> dict[str, Array]:
        """Compute all outputs, in float32 where the program has floating point.

        Args:
            inputs: by name.
            state: what `make_state` gave, changed in place; only where the program has some.

        Raises:
            ValueError: an input is missing or is not one of the program's; a state is missing.
        """
        if self.states and set(state or ()) != set(self.states):
            raise ValueError(f"{self.path.name} needs a state; see make_state")
        if set(inputs) != set(self.inputs):
            raise ValueError(
                f"{self.path.name} takes {', '.join(self.inputs)}, was given {', '.join(inputs)}"
            )
        values = {**self._constants, **{name: _plain(value) for name, value in inputs.items()}}
        values |= state or {}
        for step in self._steps:
            self._run(step, values)
        return {name: np.asarray(values[name]) for name in self.outputs}

    def _run(self, step: _Step, values: dict[str, Any]) -> None:
        arguments = {
            name: values[source] if isinstance(source, str) else [values[one] for one in source]
            for name, source in step.arguments.items()
        }
        try:
            result = step.function(**arguments)
        except (TypeError, ValueError, IndexError, NotImplementedError) as error:
            raise ArtifactError(
                f"{self.path}: the operation {step.kind} at {step.outputs[0]} cannot be "
                f"evaluated here: {error}"
            ) from error
        results = result if isinstance(result, list | tuple) else [result]
        values.update(zip(step.outputs, results, strict=True))
        for name in step.spent:
            del values[name]

    def _step(self, operation: Any) -> _Step | None:
        """An operation as a step; a constant goes to the constants instead."""
        kind = str(operation.op_type)
        names = tuple(str(var.name) for var in operation.outputs)
        if kind == "const":
            self._constants[names[0]] = _plain(operation.outputs[0].val)
            return None
        if kind.startswith("constexpr_"):
            self._constants[names[0]] = _plain(operation.materialized_val_inference())
            return None
        if kind not in OPERATIONS:
            raise ArtifactError(
                f"{self.path}: the operation {kind} at {names[0]} is not known to the evaluator; "
                "Core ML itself may still run it"
            )
        arguments = {
            name: tuple(map(self._name, value))
            if isinstance(value, list | tuple)
            else self._name(value)
            for name, value in operation.inputs.items()
            if value is not None
        }
        return _Step(kind, OPERATIONS[kind], arguments, names)

    def _name(self, var: Any) -> str:
        """The name of a value; what the reader folded into one counts as a constant."""
        name = str(var.name)
        if name not in self._constants and var.op is None and var.val is not None:
            self._constants[name] = _plain(var.val)
        return name


def _is_state(var: Any) -> bool:
    return hasattr(var.sym_type, "wrapped_type")


def _find_spent(steps: list[_Step], keep: set[str]) -> None:
    """Tell each step which values end with it, so that memory holds only what is needed."""
    seen = set(keep)
    for step in reversed(steps):
        names: set[str] = set(step.outputs)
        for source in step.arguments.values():
            names |= {source} if isinstance(source, str) else set(source)
        step.spent = tuple(sorted(names - seen))
        seen |= names


def _read(path: Path, function: str | None) -> Any:
    with _quiet():
        tools = import_extra("coremltools", "coreml")
        reader = import_extra("coremltools.converters.mil.frontend.milproto.load", "coreml")
        protobuf = import_extra("google.protobuf.message", "coreml")
        weights = next(iter(sorted(path.glob("Data/*/weights"))), None)
        try:
            spec = tools.utils.load_spec(str(path))
            program = reader.load(
                spec,
                specification_version=spec.specificationVersion,
                file_weights_dir="" if weights is None else str(weights),
            )
        except (KeyError, OSError, RuntimeError, TypeError, ValueError, protobuf.Error) as error:
            raise ArtifactError(f"{path} cannot be read as a Core ML program: {error}") from None
    functions = program.functions
    name = function or spec.description.defaultFunctionName or next(iter(functions))
    if name not in functions:
        known = ", ".join(sorted(functions))
        raise ArtifactError(f"{path} has no function {name!r}, but {known}; export again")
    return functions[name]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without coremltools' warnings that this machine is no Mac."""
    logger = logging.getLogger("coremltools")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _plain(value: Any) -> Any:
    """Numbers as numpy has them, float16 widened; text as text."""
    if isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind in "US":
        return str(array)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    return array
