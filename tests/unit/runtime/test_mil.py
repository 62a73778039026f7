"""The evaluator against numpy and torch, over programs that coremltools has written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from blip_edge.errors import ArtifactError
from blip_edge.runtime.mil import MilProgram
from tests.unit.runtime.toy_coreml import write_mil, write_torch

ct = pytest.importorskip("coremltools")

from coremltools.converters.mil import Builder as mb  # noqa: E402
from coremltools.converters.mil.mil import types  # noqa: E402

Array = NDArray[Any]
# Sums are taken in another order than torch takes them.
FLOAT32 = 1e-5
# Weights are rounded to float16: 1 in 2,048, over sums of a few dozen terms of size 1.
FLOAT16 = 5e-3

_random = np.random.default_rng(3)
X = _random.normal(size=(2, 3, 4)).astype(np.float32)
Y = _random.normal(size=(2, 3, 4)).astype(np.float32)
PICTURE = _random.normal(size=(1, 3, 8, 8)).astype(np.float32)
IDS = np.asarray([[2, 0], [1, 1]], dtype=np.int32)
WEIGHT = _random.normal(size=(5, 4)).astype(np.float32)
BIAS = _random.normal(size=5).astype(np.float32)
STATISTICS = np.asarray([-0.5, 0.7, 1.5], dtype=np.float32)
KERNEL = _random.normal(size=(6, 3, 4, 4)).astype(np.float32)
ALONG = np.asarray([[[0, 2, 1, 1]], [[2, 2, 0, 1]]], dtype=np.int32)
MASK = np.where(_random.random((3, 3)) < 0.3, -1e4, 0).astype(np.float32)


def t(x: Array) -> torch.Tensor:
    return torch.from_numpy(x)


# name: (the operation as MIL, the same in numpy or torch)
CASES: dict[str, tuple[Callable[..., Any], Any]] = {
    "add": (lambda x, y, p, i: mb.add(x=x, y=y), X + Y),
    "sub": (lambda x, y, p, i: mb.sub(x=x, y=2.0), X - 2),
    "mul": (lambda x, y, p, i: mb.mul(x=x, y=y), X * Y),
    "real_div": (lambda x, y, p, i: mb.real_div(x=x, y=y), X / Y),
    "floor_div": (lambda x, y, p, i: mb.floor_div(x=x, y=0.5), np.floor(X / 0.5)),
    "mod": (lambda x, y, p, i: mb.mod(x=x, y=0.7), np.mod(X, np.float32(0.7))),
    "pow": (lambda x, y, p, i: mb.pow(x=x, y=2.0), X**2),
    "maximum": (lambda x, y, p, i: mb.maximum(x=x, y=y), np.maximum(X, Y)),
    "minimum": (lambda x, y, p, i: mb.minimum(x=x, y=y), np.minimum(X, Y)),
    "less": (lambda x, y, p, i: mb.less(x=x, y=y), X < Y),
    "less_equal": (lambda x, y, p, i: mb.less_equal(x=i, y=1), IDS <= 1),
    "greater": (lambda x, y, p, i: mb.greater(x=x, y=y), X > Y),
    "equal": (lambda x, y, p, i: mb.equal(x=i, y=1), IDS == 1),
    "not_equal": (lambda x, y, p, i: mb.not_equal(x=i, y=1), IDS != 1),
    "logical": (
        lambda x, y, p, i: mb.logical_and(
            x=mb.greater(x=x, y=0.0), y=mb.logical_not(x=mb.less(x=y, y=0.0))
        ),
        (X > 0) & ~(Y < 0),
    ),
    "logical_or": (
        lambda x, y, p, i: mb.logical_or(x=mb.greater(x=x, y=0.0), y=mb.less(x=y, y=0.0)),
        (X > 0) | (Y < 0),
    ),
    "select": (lambda x, y, p, i: mb.select(cond=mb.less(x=x, y=y), a=x, b=y), np.minimum(X, Y)),
    "cast": (lambda x, y, p, i: mb.cast(x=x, dtype="int32"), X.astype(np.int32)),
    "clip": (lambda x, y, p, i: mb.clip(x=x, alpha=-0.5, beta=0.5), X.clip(-0.5, 0.5)),
    "exp": (lambda x, y, p, i: mb.exp(x=x), np.exp(X)),
    "sqrt": (lambda x, y, p, i: mb.sqrt(x=mb.abs(x=x)), np.sqrt(np.abs(X))),
    "rsqrt": (lambda x, y, p, i: mb.rsqrt(x=mb.square(x=x)), 1 / np.abs(X)),
    "inverse": (lambda x, y, p, i: mb.inverse(x=mb.exp(x=x), epsilon=1e-6), 1 / (np.exp(X) + 1e-6)),
    "log": (lambda x, y, p, i: mb.log(x=mb.exp(x=x)), X),
    "erf": (lambda x, y, p, i: mb.erf(x=x), t(X).erf()),
    "sigmoid": (lambda x, y, p, i: mb.sigmoid(x=x), t(X).sigmoid()),
    "tanh": (lambda x, y, p, i: mb.tanh(x=x), np.tanh(X)),
    "relu": (lambda x, y, p, i: mb.relu(x=x), X.clip(0)),
    "silu": (lambda x, y, p, i: mb.silu(x=x), F.silu(t(X))),
    "softplus": (lambda x, y, p, i: mb.softplus(x=x), F.softplus(t(X))),
    "leaky_relu": (lambda x, y, p, i: mb.leaky_relu(x=x, alpha=0.1), F.leaky_relu(t(X), 0.1)),
    "gelu": (lambda x, y, p, i: mb.gelu(x=x), F.gelu(t(X))),
    "gelu_tanh": (
        lambda x, y, p, i: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        F.gelu(t(X), approximate="tanh"),
    ),
    "softmax": (lambda x, y, p, i: mb.softmax(x=x, axis=1), t(X).softmax(1)),
    "batch_norm": (
        lambda x, y, p, i: mb.batch_norm(
            x=p, mean=STATISTICS, variance=STATISTICS**2, gamma=BIAS[:3], beta=BIAS[2:], epsilon=0.1
        ),
        F.batch_norm(
            t(PICTURE),
            t(STATISTICS),
            t(STATISTICS**2),
            t(BIAS[:3]),
            t(BIAS[2:]),
            eps=0.1,
        ),
    ),
    "linear": (
        lambda x, y, p, i: mb.linear(x=x, weight=WEIGHT, bias=BIAS),
        F.linear(t(X), t(WEIGHT), t(BIAS)),
    ),
    "matmul": (lambda x, y, p, i: mb.matmul(x=x, y=y, transpose_y=True), X @ Y.transpose(0, 2, 1)),
    "matmul_x": (
        lambda x, y, p, i: mb.matmul(x=x, y=y, transpose_x=True),
        X.transpose(0, 2, 1) @ Y,
    ),
    "einsum": (
        lambda x, y, p, i: mb.einsum(
            values=(
                mb.expand_dims(x=x, axes=[0]),
                mb.expand_dims(x=mb.transpose(x=y, perm=[2, 1, 0]), axes=[0]),
            ),
            equation="nchw,nwhu->nchu",
        ),
        np.einsum("chw,whu->chu", X, Y.T)[None],
    ),
    "layer_norm": (
        lambda x, y, p, i: mb.layer_norm(
            x=x, axes=[-1], gamma=WEIGHT[0], beta=WEIGHT[1], epsilon=1e-6
        ),
        F.layer_norm(t(X), (4,), t(WEIGHT[0]), t(WEIGHT[1]), 1e-6),
    ),
    "conv": (
        lambda x, y, p, i: mb.conv(
            x=p, weight=KERNEL, bias=np.arange(6.0, dtype=np.float32), strides=[4, 4]
        ),
        F.conv2d(t(PICTURE), t(KERNEL), torch.arange(6.0), stride=4),
    ),
    "conv_pad": (
        lambda x, y, p, i: mb.conv(
            x=p, weight=KERNEL, strides=[2, 1], pad_type="custom", pad=[1, 1, 2, 2]
        ),
        F.conv2d(t(PICTURE), t(KERNEL), stride=(2, 1), padding=(1, 2)),
    ),
    "reshape": (lambda x, y, p, i: mb.reshape(x=x, shape=[0, -1, 2]), X.reshape(2, 6, 2)),
    "transpose": (lambda x, y, p, i: mb.transpose(x=x, perm=[2, 0, 1]), X.transpose(2, 0, 1)),
    "expand_dims": (lambda x, y, p, i: mb.expand_dims(x=x, axes=[0, 2]), X[None, :, None]),
    "squeeze": (
        lambda x, y, p, i: mb.squeeze(x=mb.expand_dims(x=x, axes=[1]), axes=[1]),
        X,
    ),
    "concat": (
        lambda x, y, p, i: mb.concat(values=(x, y), axis=-1),
        np.concatenate([X, Y], axis=-1),
    ),
    "stack": (lambda x, y, p, i: mb.stack(values=(x, y), axis=1), np.stack([X, Y], axis=1)),
    "split": (lambda x, y, p, i: mb.split(x=x, split_sizes=[1, 3], axis=2)[1], X[:, :, 1:]),
    "split_even": (lambda x, y, p, i: mb.split(x=x, num_splits=2, axis=-1)[0], X[:, :, :2]),
    "slice_by_index": (
        lambda x, y, p, i: mb.slice_by_index(
            x=x,
            begin=[1, 0, -3],
            end=[0, 2, 0],
            stride=[1, 1, 2],
            begin_mask=[False, True, False],
            end_mask=[False, False, True],
            squeeze_mask=[True, False, False],
        ),
        X[1, :2, -3::2],
    ),
    "slice_by_size": (
        lambda x, y, p, i: mb.slice_by_size(x=x, begin=[0, 1, 1], size=[1, 2, -1]),
        X[:1, 1:3, 1:],
    ),
    "slice_update": (
        lambda x, y, p, i: mb.slice_update(
            x=x,
            update=mb.slice_by_index(x=y, begin=[0, 0, 0], end=[2, 1, 4]),
            begin=[0, 1, 0],
            end=[2, 2, 4],
        ),
        np.concatenate([X[:, :1], Y[:, :1], X[:, 2:]], axis=1),
    ),
    "gather": (
        lambda x, y, p, i: mb.gather(x=x, indices=i, axis=1, validate_indices=False),
        np.take(X, IDS, axis=1),
    ),
    "gather_table": (
        lambda x, y, p, i: mb.gather(x=WEIGHT, indices=i, axis=0, validate_indices=False),
        WEIGHT[IDS],
    ),
    "gather_along_axis": (
        lambda x, y, p, i: mb.gather_along_axis(x=x, indices=ALONG, axis=1, validate_indices=False),
        np.take_along_axis(X, ALONG, axis=1),
    ),
    "gather_nd": (
        lambda x, y, p, i: mb.gather_nd(x=WEIGHT, indices=i, validate_indices=False),
        WEIGHT[IDS[:, 0], IDS[:, 1]],
    ),
    "shape": (lambda x, y, p, i: mb.shape(x=x), np.asarray([2, 3, 4])),
    "tile": (lambda x, y, p, i: mb.tile(x=x, reps=[1, 2, 1]), np.tile(X, (1, 2, 1))),
    "fill": (
        lambda x, y, p, i: mb.fill(shape=mb.shape(x=x), value=3.0),
        np.full_like(X, 3),
    ),
    "range_1d": (
        lambda x, y, p, i: mb.range_1d(start=0, end=mb.reduce_max(x=i), step=1),
        np.arange(2),
    ),
    "one_hot": (
        lambda x, y, p, i: mb.one_hot(
            indices=i, one_hot_vector_size=4, on_value=1.0, off_value=0.0
        ),
        np.eye(4)[IDS],
    ),
    "band_part": (
        lambda x, y, p, i: mb.band_part(x=x, lower=-1, upper=0),
        np.tril(X),
    ),
    "pad": (
        lambda x, y, p, i: mb.pad(x=x, pad=[0, 1, 2, 0], constant_val=7.0),
        F.pad(t(X), (2, 0, 0, 1), value=7),
    ),
    "reverse": (lambda x, y, p, i: mb.reverse(x=x, axes=[1]), X[:, ::-1]),
    "topk": (lambda x, y, p, i: mb.topk(x=x, k=2, axis=-1)[0], np.sort(X)[..., ::-1][..., :2]),
    "cumsum": (
        lambda x, y, p, i: mb.cumsum(x=x, axis=1, reverse=True),
        X[:, ::-1].cumsum(axis=1)[:, ::-1],
    ),
    "reduce_mean": (
        lambda x, y, p, i: mb.reduce_mean(x=x, axes=[1, 2], keep_dims=True),
        X.mean(axis=(1, 2), keepdims=True),
    ),
    "reduce_sum": (lambda x, y, p, i: mb.reduce_sum(x=x, axes=[0]), X.sum(axis=0)),
    "reduce_max": (lambda x, y, p, i: mb.reduce_max(x=x, axes=[-1]), X.max(axis=-1)),
    "reduce_min": (lambda x, y, p, i: mb.reduce_min(x=x, axes=[-1]), X.min(axis=-1)),
    "reduce_prod": (lambda x, y, p, i: mb.reduce_prod(x=x, axes=[-1]), X.prod(axis=-1)),
    "reduce_l2_norm": (
        lambda x, y, p, i: mb.reduce_l2_norm(x=x, axes=[-1]),
        np.linalg.norm(X, axis=-1),
    ),
    "reduce_log_sum_exp": (
        lambda x, y, p, i: mb.reduce_log_sum_exp(x=x, axes=[1]),
        t(X).logsumexp(1),
    ),
    "reduce_argmax": (lambda x, y, p, i: mb.reduce_argmax(x=x, axis=1), X.argmax(axis=1)),
    "attention": (
        lambda x, y, p, i: mb.scaled_dot_product_attention(query=x, key=y, value=x, attn_mask=MASK),
        F.scaled_dot_product_attention(t(X), t(Y), t(X), attn_mask=t(MASK)),
    ),
    "quantize": (
        lambda x, y, p, i: mb.dequantize(
            input=mb.quantize(
                input=x, scale=np.float32(0.5), zero_point=np.int8(3), output_dtype="int8"
            ),
            scale=np.float32(0.5),
            zero_point=np.int8(3),
        ),
        np.rint(X / 0.5) * 0.5,
    ),
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    """All cases in one program, evaluated."""

    def build(x: Any, y: Any, p: Any, i: Any) -> Any:
        # Every case ends in an operation of that name, so that the results can be told apart.
        return tuple(
            mb.identity(x=make(x, y, p, i), name=f"out_{name}") for name, (make, _) in CASES.items()
        )

    specs = [mb.TensorSpec(array.shape) for array in (X, Y, PICTURE)]
    specs.append(mb.TensorSpec(IDS.shape, dtype=types.int32))
    program = mb.program(input_specs=specs, opset_version=ct.target.iOS18)(build)
    evaluate = MilProgram(write_mil(program, tmp_path_factory.mktemp("mil")))
    return evaluate({"x": X, "y": Y, "p": PICTURE, "i": IDS})


@pytest.mark.parametrize("name", CASES)
def test_an_operation_gives_what_numpy_or_torch_gives(results: dict[str, Array], name: str) -> None:
    wanted = np.asarray(CASES[name][1])
    found = results[f"out_{name}"]
    assert found.shape == wanted.shape
    assert found.dtype == (np.float32 if wanted.dtype.kind == "f" else found.dtype)
    np.testing.assert_allclose(found, wanted, rtol=FLOAT32, atol=FLOAT32)


class Block(nn.Module):
    """Patches, one pre-norm attention block, exact gelu: what a vision tower lowers to."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 64, 4, stride=4)
        self.first, self.second = nn.LayerNorm(64), nn.LayerNorm(64)
        self.qkv, self.out = nn.Linear(64, 192), nn.Linear(64, 64)
        self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 64)
        self.token = nn.Parameter(torch.randn(1, 1, 64))

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        x = self.patch(picture).flatten(2).transpose(1, 2)
        x = torch.cat([self.token, x], dim=1)
        q, k, v = self.qkv(self.first(x)).reshape(1, 5, 3, 4, 16).permute(2, 0, 3, 1, 4).unbind(0)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 5, 64)
        x = x + self.out(seen)
        y: torch.Tensor = x + self.down(F.gelu(self.up(self.second(x))))
        return y


@pytest.fixture(scope="module")
def block() -> Block:
    torch.manual_seed(0)
    return Block().eval()


@pytest.mark.parametrize(
    ("precision", "target", "tolerance"),
    [("FLOAT32", "iOS17", FLOAT32), ("FLOAT16", "iOS17", FLOAT16), ("FLOAT16", "iOS18", FLOAT16)],
)
def test_a_converted_network_gives_what_torch_gives(
    block: Block, tmp_path: Path, precision: str, target: str, tolerance: float
) -> None:
    inputs = {"picture": PICTURE}
    path = write_torch(block, inputs, ["y"], tmp_path, precision=precision, target=target)
    found = MilProgram(path)(inputs)["y"]
    with torch.no_grad():
        wanted = block(t(PICTURE)).numpy()
    np.testing.assert_allclose(found, wanted, atol=tolerance)
    assert precision == "FLOAT32" or np.abs(found - wanted).max() > 0  # weights were rounded


@pytest.mark.parametrize(("how", "tolerance"), [("int8", 0.1), ("palette", 0.6)])
def test_compressed_weights_are_unpacked(
    block: Block, tmp_path: Path, how: str, tolerance: float
) -> None:
    inputs = {"picture": PICTURE}
    path = write_torch(block, inputs, ["y"], tmp_path, compress=how)
    found = MilProgram(path)(inputs)["y"]
    with torch.no_grad():
        wanted = block(t(PICTURE)).numpy()
    assert 1e-3 < np.abs(found - wanted).max() < tolerance
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99


def test_inputs_have_to_fit(block: Block, tmp_path: Path) -> None:
    program = MilProgram(write_torch(block, {"picture": PICTURE}, ["y"], tmp_path))
    assert (program.inputs, program.outputs) == (("picture",), ("y",))
    with pytest.raises(ValueError, match="takes picture, was given image"):
        program({"image": PICTURE})
    with pytest.raises(ArtifactError, match="the operation"):
        program({"picture": PICTURE[:, :2]})


class _Adder(nn.Module):
    """Gives back what it kept, and keeps the sum with what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kept", torch.zeros(2, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.get_buffer("kept")
        before = kept * 1.0
        kept[:] = kept + x
        return before


def test_state_stays_between_calls_in_half_precision(tmp_path: Path) -> None:
    states = [ct.StateType(ct.TensorType(shape=(2, 3), dtype=np.float16), name="kept")]
    x = np.full((2, 3), 1 / 3, dtype=np.float32)
    program = MilProgram(write_torch(_Adder(), {"x": x}, ["y"], tmp_path, states=states))
    assert (program.inputs, program.states) == (("x",), {"kept": (2, 3)})
    state, other = program.make_state(), program.make_state()
    assert (program({"x": x}, state)["y"] == 0).all()
    assert (program({"x": x}, state)["y"] == np.float16(1 / 3)).all()
    assert (program({"x": x}, state)["y"] == np.float16(2 * np.float32(np.float16(1 / 3)))).all()
    assert (program({"x": x}, other)["y"] == 0).all(), "two searches share a cache"
    with pytest.raises(ValueError, match="needs a state"):
        program({"x": x})


def test_an_operation_that_is_not_known_is_named(tmp_path: Path) -> None:
    def build(x: Any) -> Any:
        return mb.atanh(x=x, name="strange")

    specs = [mb.TensorSpec(X.shape)]
    program = mb.program(input_specs=specs, opset_version=ct.target.iOS18)(build)
    with pytest.raises(ArtifactError, match="operation atanh at strange is not known"):
        MilProgram(write_mil(program, tmp_path))


def test_a_package_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.mlpackage"
    path.mkdir()
    (path / "Manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"broken\.mlpackage cannot be read"):
        MilProgram(path)
