"""What people export of BLIP today, in the race of `cpu_inference.py`.

Three parts, as the usual recipes have them: the image encoder, the text encoder, the decoder of one
step with a cache of its own keys and values. The image's states go into the texts' graphs at every
call, which project its keys and values again. On OpenVINO in float, and on ONNX Runtime with
weights in 8 bits (`quantize_dynamic`). The search around them is ours, which costs less than
`generate`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cpu_tasks import ANSWER_TOKENS, CLASSES, NEW_TOKENS, READ, TASKS, THREADS, Inputs, ModelName
from numpy.typing import NDArray

from blip_edge.generation import Generation
from blip_edge.runtime.decoding import search
from blip_edge.text import Tokenizer

Feeds = dict[str, Any]
_SEP = 3


def export_plain(folder: Path, name: ModelName) -> None:
    """Write the parts of `folder`/hf to `folder`/plain, in float and in 8 bits, unless they are
    there."""
    import torch
    import transformers
    from onnxruntime.quantization import QuantType, quantize_dynamic

    output = folder / "plain"
    output.mkdir(exist_ok=True)
    with torch.no_grad():
        model: Any = getattr(transformers, CLASSES[name]).from_pretrained(folder / "hf").eval()
        for part, (module, feeds, outputs, free) in _parts(model, folder).items():
            whole, small = output / f"{part}.onnx", output / f"{part}-int8.onnx"
            if small.is_file():
                continue
            torch.onnx.export(
                module,
                tuple(feeds.values()),
                str(whole),
                dynamo=False,
                opset_version=17,
                input_names=[*feeds],
                output_names=outputs,
                dynamic_axes=free,
            )
            # Under another name until it is whole.
            quantize_dynamic(
                whole,
                draft := output / "draft",
                weight_type=QuantType.QInt8,
                op_types_to_quantize=["MatMul", "Gemm"],
            )
            draft.rename(small)


def _parts(model: Any, folder: Path) -> dict[str, tuple[Any, dict[str, Any], list[str], Any]]:
    """Each part: module, example inputs by name, names of outputs, free axes."""
    import torch
    from cpu_modules import Decoder, Embedder, Encoder, Matcher, Vision

    text = model.config.text_config
    states = torch.randn(2, 5, text.encoder_hidden_size)
    ids = torch.ones(2, 4, dtype=torch.long)
    texts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    rows = {"input_ids": {0: "r", 1: "t"}, "attention_mask": {0: "r", 1: "t"}}
    seen = {"states": {0: "r", 1: "s"}}
    pixels = torch.from_numpy(np.load(folder / "pixels.npy"))
    found: Any = {"vision": (Vision(model), {"pixel_values": pixels}, ["states"], {})}
    if hasattr(model, "itm_head"):
        found["match"] = (Matcher(model), {**texts, "states": states}, ["logits"], rows | seen)
        found["text"] = (Embedder(model), texts, ["embeds"], rows)
        return found
    if hasattr(model, "text_encoder"):
        found["question"] = (Encoder(model), {**texts, "states": states}, ["asked"], rows | seen)
    head = text.hidden_size // text.num_attention_heads
    past = {
        f"past_{at}": torch.randn(2, text.num_attention_heads, 3, head)
        for at in range(2 * text.num_hidden_layers)
    }
    present = [name.replace("past", "present") for name in past]
    free = (
        {"input_ids": {0: "r", 1: "t"}, "beam_idx": {0: "r"}}
        | seen
        | {name: {0: "r", 2: "p"} for name in past}
    )
    feeds = {"input_ids": ids, "beam_idx": torch.arange(2), "states": states, **past}
    found["decoder"] = (Decoder(model), feeds, ["logits", *present], free)
    return found


class Exported:
    """The parts on one runtime, and one task.

    Args:
        folder: of the model; its parts in `plain`.
        task: by its name in `TASKS`.
        given: what is asked.
        runtime: "onnx" with weights in 8 bits; "openvino" in float32, or in "openvino-default"
            what it chooses itself, which is bf16 where the processor has it.
    """

    def __init__(self, folder: Path, task: str, given: Inputs, *, runtime: str) -> None:
        self._task, self._given = task, given
        self._pixels = np.load(folder / "pixels.npy")
        self._words = Tokenizer.from_vocab(folder / "hf" / "vocab.txt")
        end = "-int8.onnx" if runtime == "onnx" else ".onnx"
        paths = {part: folder / "plain" / f"{part}{end}" for part in _PARTS[task]}
        self._parts = {part: _open(runtime, path) for part, path in paths.items()}
        self.file_bytes = sum(path.stat().st_size for path in paths.values())

    def run(self) -> tuple[Any, dict[str, float]]:
        """The answer; its stages are not told."""
        given = self._given
        match self._task:
            case "text":
                return self._parts["text"](_text(given.embedded_ids))["embeds"].tolist(), {}
            case "matching":
                feeds = _text(given.read_ids) | {"states": np.repeat(self._seen(), READ, axis=0)}
                return self._parts["match"](feeds)["logits"].tolist(), {}
            case "vqa":
                feeds = _text(given.question_ids) | {"states": self._seen()}
                asked = self._parts["question"](feeds)["asked"]
                return self._said(asked, given.prompt[:, :1], ANSWER_TOKENS), {}
            case _:
                return self._said(self._seen(), given.prompt, NEW_TOKENS), {}

    def _seen(self) -> NDArray[np.float32]:
        states: NDArray[np.float32] = self._parts["vision"]({"pixel_values": self._pixels})[
            "states"
        ]
        return states

    def _said(self, states: Any, prompt: NDArray[np.int64], new: int) -> list[str]:
        start, beams = prompt.shape[1], TASKS[self._task].beams
        how = Generation(
            bos_token_id=int(prompt[0, 0]),
            eos_token_id=_SEP,
            pad_token_id=0,
            num_beams=beams,
            min_length=start + new,
            max_length=start + new,
        )
        session = _Session(self._parts["decoder"], np.repeat(states, beams, axis=0))
        best = search(session, prompt.astype(np.int32), how)[0][0]
        return self._words.decode(best.token_ids[start:]).split()

    def forced(self) -> NDArray[np.float32]:
        """(T, V) logits after each of the forced tokens, one step each."""
        session, ids = _Session(self._parts["decoder"], self._seen()), self._given.forced
        row = np.zeros(1, dtype=np.int32)
        return np.stack([session.step(ids[:, [at]], row)[0].copy() for at in range(ids.shape[1])])


_PARTS = {
    "caption-greedy": ("vision", "decoder"),
    "caption-beams": ("vision", "decoder"),
    "vqa": ("vision", "question", "decoder"),
    "matching": ("vision", "match"),
    "text": ("text",),
}


class _Session:
    """The decoder of one step as a search asks for it."""

    def __init__(self, decoder: "_Graph", states: NDArray[np.float32]) -> None:
        self._decoder, self._states = decoder, states
        self._past = {
            name: np.zeros((len(states), shape[1], 0, shape[3]), dtype=np.float32)
            for name, shape in decoder.shapes.items()
            if name.startswith("past_")
        }

    def step(self, input_ids: Any, beam_idx: Any) -> Any:
        feeds = {
            "input_ids": input_ids.astype(np.int64),
            "beam_idx": beam_idx.astype(np.int64),
            "states": self._states,
            **self._past,
        }
        found = self._decoder(feeds)
        self._past = {name: found[name.replace("past", "present")] for name in self._past}
        return found["logits"]


class _Graph:
    """An open graph: arrays in and out, by name."""

    def __init__(self, shapes: dict[str, Any], call: Callable[[Feeds], Feeds]) -> None:
        self.shapes, self._call = shapes, call

    def __call__(self, feeds: Feeds) -> Feeds:
        return self._call(feeds)


def _open(runtime: str, path: Path) -> _Graph:
    return _onnx(path) if runtime == "onnx" else _openvino(path, runtime)


def _onnx(path: Path) -> _Graph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]

    def call(feeds: Feeds) -> Feeds:
        return dict(zip(names, session.run(names, feeds), strict=True))

    return _Graph({port.name: port.shape for port in session.get_inputs()}, call)


def _openvino(path: Path, runtime: str) -> _Graph:
    import openvino

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": THREADS,
        # Without it a cache of free length gives wrong logits (see runtime/openvino.py).
        "SNIPPETS_MODE": "DISABLE",
    }
    if runtime == "openvino":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    names = [port.any_name for port in compiled.outputs]

    def call(feeds: Feeds) -> Feeds:
        for name, value in feeds.items():
            # An empty array loses its shape where memory is shared.
            request.set_tensor(name, openvino.Tensor(value, shared_memory=value.size > 0))
        request.infer()
        return {name: request.get_tensor(name).data.copy() for name in names}

    shapes = {
        port.any_name: [
            side.get_length() if side.is_static else None for side in port.partial_shape
        ]
        for port in compiled.inputs
    }
    return _Graph(shapes, call)


def _text(ids: NDArray[np.int64]) -> Feeds:
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}
