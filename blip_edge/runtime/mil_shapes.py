"""Core ML's tensor operations in numpy: what moves, cuts, joins, makes and keeps tensors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blip_edge.runtime.mil_ops import DTYPES, operation

__all__: list[str] = []

Array = NDArray[Any]

_ZERO, _ON, _OFF = np.float32(0), np.int32(1), np.int32(0)  # MIL's defaults, of its types


def _ints(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in np.atleast_1d(values))


@operation("reshape")
def _reshape(x: Array, shape: Array) -> Array:
    sizes = _ints(shape)
    # 0 keeps the size that x has there.
    return x.reshape([x.shape[n] if size == 0 else size for n, size in enumerate(sizes)])


@operation("transpose")
def _transpose(x: Array, perm: Array) -> Array:
    return np.transpose(x, _ints(perm))


@operation("squeeze")
def _squeeze(x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, None if axes is None else _ints(axes))


@operation("expand_dims")
def _expand_dims(x: Array, axes: Array) -> Array:
    return np.expand_dims(x, _ints(axes))


@operation("concat")
def _concat(values: tuple[Array, ...], axis: int, interleave: bool = False) -> Array:
    if interleave:
        raise NotImplementedError("concat with interleave")
    return np.concatenate([np.atleast_1d(value) for value in values], axis=int(axis))


@operation("stack")
def _stack(values: tuple[Array, ...], axis: int) -> Array:
    return np.stack(values, axis=int(axis))


@operation("split")
def _split(
    x: Array, axis: int, num_splits: int | None = None, split_sizes: Array | None = None
) -> list[Array]:
    if split_sizes is not None:
        return np.split(x, np.cumsum(_ints(split_sizes))[:-1], axis=int(axis))
    assert num_splits is not None  # MIL demands one of the two
    return np.split(x, int(num_splits), axis=int(axis))


def _cut(
    begin: Array,
    end: Array,
    stride: Array | None,
    begin_mask: Array | None,
    end_mask: Array | None,
    squeeze_mask: Array | None,
) -> tuple[slice | int, ...]:
    """MIL's slicing arguments as a numpy index."""
    first, last = _ints(begin), _ints(end)
    steps = (1,) * len(first) if stride is None else _ints(stride)
    off = (0,) * len(first)
    from_start = off if begin_mask is None else _ints(begin_mask)
    to_end = off if end_mask is None else _ints(end_mask)
    single = off if squeeze_mask is None else _ints(squeeze_mask)
    return tuple(
        first[n]
        if single[n]
        else slice(None if from_start[n] else first[n], None if to_end[n] else last[n], steps[n])
        for n in range(len(first))
    )


@operation("slice_by_index")
def _slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Any:
    return x[_cut(begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@operation("slice_update")
def _slice_update(
    x: Array,
    update: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    y = x.copy()
    y[_cut(begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return y


@operation("slice_by_size")
def _slice_by_size(x: Array, begin: Array, size: Array) -> Any:
    index = []
    for n, (first, count) in enumerate(zip(_ints(begin), _ints(size), strict=True)):
        start = first % x.shape[n] if first < 0 else first
        index.append(slice(start, None if count == -1 else start + count))
    return x[tuple(index)]


@operation("gather")
def _gather(
    x: Array, indices: Array, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Array:
    if batch_dims:
        raise NotImplementedError("gather with batch_dims")
    return np.take(x, indices, axis=int(axis))


@operation("gather_along_axis")
def _gather_along_axis(
    x: Array, indices: Array, axis: int = 0, validate_indices: bool = False
) -> Array:
    return np.take_along_axis(x, indices.astype(np.intp), axis=int(axis))


@operation("gather_nd")
def _gather_nd(
    x: Array, indices: Array, batch_dims: int = 0, validate_indices: bool = False
) -> Any:
    if batch_dims:
        raise NotImplementedError("gather_nd with batch_dims")
    return x[tuple(np.moveaxis(indices, -1, 0).astype(np.intp))]


@operation("shape")
def _shape(x: Array) -> Array:
    return np.asarray(x.shape, dtype=np.int32)


@operation("select")
def _select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


@operation("tile")
def _tile(x: Array, reps: Array) -> Array:
    return np.tile(x, _ints(reps))


@operation("fill")
def _fill(shape: Array, value: Any = _ZERO) -> Array:
    return np.full(_ints(shape), value)


@operation("fill_like")
def _fill_like(ref_tensor: Array, value: Any = _ZERO) -> Array:
    return np.full(ref_tensor.shape, value)


@operation("range_1d")
def _range_1d(start: Any, end: Any, step: Any) -> Array:
    return np.arange(start, end, step, dtype=np.asarray(start).dtype)


@operation("one_hot")
def _one_hot(
    indices: Array,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Any = _ON,
    off_value: Any = _OFF,
) -> Array:
    hot = indices[..., None] == np.arange(int(one_hot_vector_size))
    return np.moveaxis(np.where(hot, on_value, off_value), -1, int(axis))


@operation("band_part")
def _band_part(x: Array, lower: int = -1, upper: int = -1) -> Array:
    rows, columns = np.arange(x.shape[-2])[:, None], np.arange(x.shape[-1])
    keep = np.ones((x.shape[-2], x.shape[-1]), dtype=np.bool_)
    if lower >= 0:
        keep &= rows - columns <= lower
    if upper >= 0:
        keep &= columns - rows <= upper
    return np.where(keep, x, np.zeros((), dtype=x.dtype))


@operation("pad")
def _pad(x: Array, pad: Array, mode: str = "constant", constant_val: float = 0.0) -> Array:
    pairs = np.reshape(pad, (-1, 2)).tolist()  # of the last axes
    width = [(0, 0)] * (x.ndim - len(pairs)) + pairs
    if mode == "constant":
        return np.pad(x, width, constant_values=constant_val)
    return np.pad(x, width, mode="reflect" if mode == "reflect" else "edge")


@operation("reverse")
def _reverse(x: Array, axes: Array | None = None) -> Array:
    return np.flip(x, None if axes is None else _ints(axes))


@operation("topk")
def _topk(
    x: Array,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Array, ...]:
    order = np.argsort(x if ascending else -x, axis=axis, kind="stable")
    order = np.take(order, np.arange(int(k)), axis=axis)
    values = np.take_along_axis(x, order, axis=axis)
    return (values, order.astype(DTYPES[output_indices_dtype])) if return_indices else (values,)


@operation("read_state")
def _read_state(input: Array) -> Array:  # MIL's name for it
    return input.astype(np.float32)


@operation("coreml_update_state")
def _update_state(state: Array, value: Array) -> Array:
    state[...] = value  # rounded to what a state holds
    return state.astype(np.float32)
