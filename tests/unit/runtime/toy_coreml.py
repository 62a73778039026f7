"""Small Core ML packages, written on any machine; and the toy captioner as such."""

import gc
import warnings
from pathlib import Path
from typing import Any

import coremltools as ct
import coremltools.optimize.coreml as shrink
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.unit.runtime import toy

Array = NDArray[Any]


def write_mil(program: Any, folder: Path) -> Path:
    """A program of MIL's builder as a package, its operations as they are."""
    return _write(
        program,
        folder / "program.mlpackage",
        compress=None,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32,
        pass_pipeline=ct.PassPipeline.EMPTY,
    )


def write_torch(
    module: nn.Module,
    inputs: dict[str, Array],
    outputs: list[str],
    folder: Path,
    *,
    name: str = "network",
    precision: str = "FLOAT16",
    target: str = "iOS18",
    compress: str | None = None,
    **settings: Any,
) -> Path:
    """A traced torch module as a package with named inputs and outputs, all float32."""
    with torch.no_grad():
        examples = tuple(torch.from_numpy(value) for value in inputs.values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch.jit itself
            trace: Any = torch.jit.trace
            traced = trace(module.eval(), examples, check_trace=False)
    return _write(
        traced,
        folder / f"{name}.mlpackage",
        compress=compress,
        inputs=[ct.TensorType(n, shape=v.shape, dtype=v.dtype) for n, v in inputs.items()],
        outputs=[ct.TensorType(n, dtype=np.float32) for n in outputs],
        minimum_deployment_target=ct.target[target],
        compute_precision=ct.precision[precision],
        **settings,
    )


def _write(source: Any, path: Path, *, compress: str | None, **settings: Any) -> Path:
    with warnings.catch_warnings():
        # coremltools leaves its temporary folders to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        model = ct.convert(source, convert_to="mlprogram", skip_model_load=True, **settings)
        if compress == "int8":
            how = shrink.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=512)
            model = shrink.linear_quantize_weights(model, shrink.OptimizationConfig(how))
        if compress == "palette":
            grouped = shrink.OpPalettizerConfig(mode="kmeans", nbits=4, weight_threshold=512)
            model = shrink.palettize_weights(model, shrink.OptimizationConfig(grouped))
        model.save(str(path))
        del model
        gc.collect()
    return path


class _Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("key", torch.from_numpy(toy.LOOK_KEY))
        self.register_buffer("value", torch.from_numpy(toy.LOOK_VALUE))

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        colour = pixel_values.mean(dim=(2, 3))
        key = (colour @ self.get_buffer("key")).reshape(1, 2, 3, 4)
        value = (colour @ self.get_buffer("value")).reshape(1, 2, 4, 3)
        return key, value


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.from_numpy(toy.KEYS))
        self.register_buffer("values", torch.from_numpy(toy.VALUES))
        self.register_buffer("head", torch.from_numpy(toy.HEAD))

    def forward(
        self,
        input_ids: Tensor,
        position: Tensor,
        beam_idx: Tensor,
        past_key_0: Tensor,
        past_value_0: Tensor,
        cross_key_0: Tensor,
        cross_value_0: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        place = torch.arange(toy.LENGTH, dtype=torch.int32)
        here = (place == position).float().reshape(1, 1, toy.LENGTH, 1)
        heads = (toy.ROWS, toy.HEADS, 1, toy.WIDTH)
        new_key = nn.functional.embedding(input_ids[:, 0], self.get_buffer("keys")).reshape(heads)
        new_value = nn.functional.embedding(input_ids[:, 0], self.get_buffer("values"))
        new_value = new_value.reshape(heads)
        key = past_key_0.index_select(0, beam_idx) * (1 - here) + new_key * here
        value = past_value_0.index_select(0, beam_idx) * (1 - here) + new_value * here
        upto = (place <= position).float().reshape(1, 1, toy.LENGTH, 1)
        mean = (key * upto).sum(dim=2) / (position + 1).float()
        look = cross_key_0.mean(dim=3) + cross_value_0.mean(dim=2)
        state = torch.tanh(mean + (value * here).sum(dim=2) + look).reshape(toy.ROWS, toy.D)
        return state @ self.get_buffer("head"), key, value


def write_coreml(folder: Path) -> None:
    """vision.mlpackage and decoder.mlpackage of the toy captioner, in float32."""
    float32 = np.float32
    pixels = {"pixel_values": np.zeros((1, 3, toy.SIDE, toy.SIDE), dtype=float32)}
    cross = {
        "cross_key_0": np.zeros((1, toy.HEADS, toy.WIDTH, toy.TOKENS), dtype=float32),
        "cross_value_0": np.zeros((1, toy.HEADS, toy.TOKENS, toy.WIDTH), dtype=float32),
    }
    write_torch(_Vision(), pixels, list(cross), folder, name="vision", precision="FLOAT32")
    cache = np.zeros((toy.ROWS, toy.HEADS, toy.LENGTH, toy.WIDTH), dtype=float32)
    inputs = {
        "input_ids": np.zeros((toy.ROWS, 1), dtype=np.int32),
        "position": np.zeros(1, dtype=np.int32),
        "beam_idx": np.zeros(toy.ROWS, dtype=np.int32),
        "past_key_0": cache,
        "past_value_0": cache.copy(),
        **cross,
    }
    outputs = ["logits", "present_key_0", "present_value_0"]
    write_torch(_Decoder(), inputs, outputs, folder, name="decoder", precision="FLOAT32")
