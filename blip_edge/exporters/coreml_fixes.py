"""What coremltools 9.0 needs to convert with today's numpy, applied only while it converts.

Its conversion of `int(x)` and `float(x)` calls the type on an array of one element, which numpy
2.4 refuses. The replacement takes the element out first. Where coremltools no longer has that
function, nothing is replaced: a later release needs no help.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

import numpy as np

from blip_edge.errors import import_extra

__all__ = ["converting"]


@contextmanager
def converting() -> Iterator[Any]:
    """Yield coremltools, able to convert and silent, as long as the block runs.

    Raises:
        MissingExtraError: coremltools is not installed.
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # that this is no Mac, that this torch is new
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tools = import_extra("coremltools", "coreml")
            operations = import_extra("coremltools.converters.mil.frontend.torch.ops", "coreml")
            # Its progress bars cannot be switched off.
            with redirect_stderr(StringIO()), _replaced(operations, "_cast", _cast):
                yield tools
    finally:
        logging.disable(before)


@contextmanager
def _replaced(module: Any, name: str, function: Callable[..., None]) -> Iterator[None]:
    original = getattr(module, name, None)
    if original is not None:
        setattr(module, name, function)
    try:
        yield
    finally:
        if original is not None:
            setattr(module, name, original)


def _cast(context: Any, node: Any, dtype: type, dtype_name: str) -> None:
    """A scalar, or an array of one element, to `dtype`."""
    builder = import_extra("coremltools.converters.mil", "coreml").Builder
    operations = import_extra("coremltools.converters.mil.frontend.torch.ops", "coreml")
    (x,) = operations._get_inputs(context, node, expected=1)
    if any(size != 1 for size in x.shape):
        raise ValueError(f"{node.name}: only a scalar can be made {dtype_name}")
    if x.can_be_folded_to_const():
        out = builder.const(val=dtype(np.asarray(x.val).item()), name=node.name)
    else:
        scalar = builder.squeeze(x=x, name=f"{node.name}_item") if x.shape else x
        out = builder.cast(x=scalar, dtype=dtype_name, name=node.name)
    context.add(out, node.name)
