"""Core ML's tensor operations in numpy: arithmetic, linear algebra and reductions.

One function per operation, with the parameter names of MIL (coremltools' operation reference) and
its defaults. Floating point is float32 throughout, also where the program says float16: weights
keep their float16 rounding, sums do not overflow or round as they would on a phone.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from blip_edge.errors import import_extra

__all__ = ["DTYPES", "OPERATIONS", "operation"]

Array = NDArray[Any]
_Operation = TypeVar("_Operation", bound=Callable[..., Any])

OPERATIONS: dict[str, Callable[..., Any]] = {}
"""MIL operation type to function."""

DTYPES: dict[str, type] = {
    "fp16": np.float32,  # see above
    "fp32": np.float32,
    "int32": np.int32,
    "int16": np.int16,
    "uint16": np.uint16,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}


def operation(name: str) -> Callable[[_Operation], _Operation]:
    """Register the function of a MIL operation."""

    def register(function: _Operation) -> _Operation:
        OPERATIONS[name] = function
        return function

    return register


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """A numpy function under MIL's parameter names."""

    def call(x: Array, y: Array | None = None) -> Any:
        return function(x) if y is None else function(x, y)

    return call


OPERATIONS |= {
    name: _elementwise(function)
    for name, function in {
        "abs": np.abs,
        "add": np.add,
        "ceil": np.ceil,
        "cos": np.cos,
        "equal": np.equal,
        "exp": np.exp,
        "exp2": np.exp2,
        "floor": np.floor,
        "floor_div": np.floor_divide,
        "greater": np.greater,
        "greater_equal": np.greater_equal,
        "less": np.less,
        "less_equal": np.less_equal,
        "logical_and": np.logical_and,
        "logical_not": np.logical_not,
        "logical_or": np.logical_or,
        "logical_xor": np.logical_xor,
        "maximum": np.maximum,
        "minimum": np.minimum,
        "mod": np.mod,
        "mul": np.multiply,
        "not_equal": np.not_equal,
        "pow": np.power,
        "round": np.rint,
        "sign": np.sign,
        "sin": np.sin,
        "sqrt": np.sqrt,
        "square": np.square,
        "sub": np.subtract,
        "tanh": np.tanh,
    }.items()
}


@operation("identity")
def _identity(x: Array) -> Array:
    return x


@operation("cast")
def _cast(x: Array, dtype: str) -> Array:
    return np.asarray(x).astype(DTYPES[dtype])


@operation("real_div")
def _real_div(x: Array, y: Array) -> Array:
    return np.divide(x, y, dtype=np.float32)


@operation("clip")
def _clip(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(x, alpha, beta)


@operation("rsqrt")
def _rsqrt(x: Array, epsilon: float = 1e-12) -> Any:
    return 1 / np.sqrt(x + epsilon)


@operation("log")
def _log(x: Array, epsilon: float = 1e-45) -> Any:
    return np.log(x + epsilon)


@operation("inverse")
def _inverse(x: Array, epsilon: float = 1e-4) -> Any:
    return 1 / (x + epsilon)


@operation("erf")
def erf(x: Array) -> Array:
    """The error function; numpy has none."""
    values: Array = import_extra("scipy.special", "coreml").erf(x)
    return values


@operation("sigmoid")
def sigmoid(x: Array) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


@operation("relu")
def _relu(x: Array) -> Any:
    return np.maximum(x, 0)


@operation("silu")
def _silu(x: Array) -> Any:
    return x * sigmoid(x)


@operation("softplus")
def _softplus(x: Array) -> Any:
    return np.logaddexp(x, np.float32(0))


@operation("leaky_relu")
def _leaky_relu(x: Array, alpha: float = 0.01) -> Array:
    return np.where(x >= 0, x, alpha * x)


@operation("gelu")
def _gelu(x: Array, mode: str = "EXACT") -> Any:
    if mode == "EXACT":
        return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))
    if mode == "TANH_APPROXIMATION":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return x * sigmoid(1.702 * x)  # SIGMOID_APPROXIMATION


@operation("softmax")
def softmax(x: Array, axis: int = -1) -> Any:
    """exp(x) / sum(exp(x)) over `axis`, without overflow."""
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    powers /= powers.sum(axis=axis, keepdims=True)
    return powers


@operation("linear")
def _linear(x: Array, weight: Array, bias: Array | None = None) -> Any:
    y = x @ weight.T
    return y if bias is None else y + bias


@operation("matmul")
def _matmul(x: Array, y: Array, transpose_x: bool = False, transpose_y: bool = False) -> Any:
    return (np.swapaxes(x, -1, -2) if transpose_x else x) @ (
        np.swapaxes(y, -1, -2) if transpose_y else y
    )


@operation("einsum")
def _einsum(values: tuple[Array, ...], equation: str) -> Any:
    return np.einsum(equation, *values)


@operation("scaled_dot_product_attention")
def _attention(query: Array, key: Array, value: Array, attn_mask: Array | None = None) -> Any:
    scores = query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == np.bool_:
        scores = np.where(attn_mask, scores, np.float32(-np.inf))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return softmax(scores) @ value


@operation("layer_norm")
def _layer_norm(
    x: Array,
    axes: Array | None = None,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Any:
    over = _axes(x, axes)
    centred = x - x.mean(axis=over, keepdims=True)
    y = centred / np.sqrt(np.square(centred).mean(axis=over, keepdims=True) + epsilon)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


@operation("batch_norm")
def _batch_norm(
    x: Array,
    mean: Array,
    variance: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    epsilon: float = 1e-5,
) -> Any:
    """(B, C, spatial…), with (C,) statistics that are known."""
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + epsilon)
    shift = (0 if beta is None else beta) - mean * scale
    return x * _along(x, scale, 1) + _along(x, shift, 1)


@operation("conv")
def _conv(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    strides: Array | None = None,
    pad_type: str = "valid",
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: int = 1,
) -> Any:
    """(B, C, spatial…) with (out, C, kernel…): one group, no dilation, no automatic padding."""
    if groups != 1 or (dilations is not None and np.any(dilations != 1)):
        raise NotImplementedError("conv with groups or dilations")
    if pad_type not in ("valid", "custom"):
        raise NotImplementedError(f"conv with pad_type {pad_type}")
    kernel = weight.shape[2:]
    if pad_type == "custom" and pad is not None:
        x = np.pad(x, [(0, 0), (0, 0), *np.reshape(pad, (-1, 2)).tolist()])
    steps = [1] * len(kernel) if strides is None else [int(step) for step in strides]
    spatial = tuple(range(2, 2 + len(kernel)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=spatial)
    windows = windows[(slice(None), slice(None), *(slice(None, None, step) for step in steps))]
    inner = tuple(range(windows.ndim - len(kernel), windows.ndim))
    y = np.tensordot(windows, weight, axes=((1, *inner), (1, *spatial)))
    y = np.moveaxis(y, -1, 1)  # (B, out, spatial…)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(kernel))


@operation("quantize")
def _quantize(
    input: Array,  # MIL's name for it
    scale: Array,
    output_dtype: str,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Array:
    scale, zero_point = _along(input, scale, axis), _along(input, zero_point, axis)
    limits = np.iinfo(DTYPES[output_dtype])
    codes = np.rint(input / scale) + (0 if zero_point is None else zero_point)
    clipped: Array = np.clip(codes, limits.min, limits.max).astype(DTYPES[output_dtype])
    return clipped


@operation("dequantize")
def _dequantize(
    input: Array,  # MIL's name for it
    scale: Array,
    zero_point: Array | None = None,
    axis: int | None = None,
) -> Any:
    scale, zero_point = _along(input, scale, axis), _along(input, zero_point, axis)
    codes = input.astype(np.float32)
    return (codes if zero_point is None else codes - zero_point.astype(np.float32)) * scale


def _along(x: Array, vector: Array | None, axis: int | None) -> Any:
    """A vector laid along one axis of x; a scalar stays."""
    if vector is None or np.ndim(vector) == 0 or axis is None:
        return vector
    shape = [1] * x.ndim
    shape[axis] = -1
    return np.reshape(vector, shape)


def _axes(x: Array, axes: Array | None) -> tuple[int, ...] | None:
    return None if axes is None else tuple(int(axis) for axis in np.atleast_1d(axes))


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(x: Array, axes: Array | None = None, keep_dims: bool = False) -> Any:
        return function(x, axis=_axes(x, axes), keepdims=bool(keep_dims))

    return call


def _log_sum_exp(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    highest = x.max(axis=axis, keepdims=True)
    total = np.log(np.exp(x - highest).sum(axis=axis, keepdims=True)) + highest
    return total if keepdims else np.squeeze(total, axis=axis)


def _sum_square(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    return np.square(x).sum(axis=axis, keepdims=keepdims)


def _l2_norm(x: Array, axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    return np.sqrt(_sum_square(x, axis, keepdims))


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_l2_norm": _l2_norm,
    "reduce_log_sum_exp": _log_sum_exp,
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": _sum_square,
}
OPERATIONS |= {name: _reduction(function) for name, function in _REDUCTIONS.items()}


@operation("reduce_argmax")
def _argmax(
    x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Array:
    where: Array = np.argmax(x, axis=axis, keepdims=bool(keep_dims))
    return where.astype(DTYPES[output_dtype])


@operation("reduce_argmin")
def _argmin(
    x: Array, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Array:
    where: Array = np.argmin(x, axis=axis, keepdims=bool(keep_dims))
    return where.astype(DTYPES[output_dtype])


@operation("cumsum")
def _cumsum(x: Array, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Any:
    values = np.flip(x, axis) if reverse else x
    total = np.cumsum(values, axis=axis, dtype=x.dtype)
    total = total - values if exclusive else total
    return np.flip(total, axis) if reverse else total
