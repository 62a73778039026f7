"""One package's own 8-bit graphs of a captioner, as it makes them by itself: a bundle, and seconds.

    python benchmarks/quantizers_native.py onnxruntime MODEL DATA FLOAT_BUNDLE -o BUNDLE

It is given the float graphs of a bundle, in its own format, and what they read while the model
captions train pictures; the bundle that comes out is the given one with its graphs in the place of
the float ones. Each is used as its own pages say, with its own choices. The seconds are those of
its own calls, calibration among them. quantizers.py runs this.
"""

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blip_edge.artifact import read_json, write_json
from blip_edge.data.dataset import Dataset
from blip_edge.exporters.graphs import DecoderGraph, Graph, VisionGraph
from blip_edge.exporters.onnx import save_onnx
from blip_edge.models.folder import Model, load_model
from blip_edge.quantize.calibrate import decode, pick
from blip_edge.runtime.manifest import graph_sha256

Feeds = list[dict[str, NDArray[Any]]]
Write = Callable[[], None]
"""Puts the graph into the bundle, after the clock was stopped."""


def main() -> None:
    """Make the bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("engine", choices=list(ENGINES))
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("bundle", type=Path, help="in float, of the engine's runtime")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=128, help="train pictures")
    parser.add_argument("--seed", type=int, default=0, help="chooses them")
    given = parser.parse_args()
    model, dataset = load_model(given.model), Dataset.open(given.data)
    pixels = pick(dataset, model.preprocess, samples=given.samples, seed=given.seed)
    graphs: list[Graph] = [VisionGraph(model.blip), DecoderGraph(model.blip)]
    feeds = read_in_use(model, graphs, pixels)
    with TemporaryDirectory(dir=given.output.parent) as name:
        made = Path(name) / "bundle"
        shutil.copytree(given.bundle, made)
        seconds = 0.0
        for graph in graphs:
            started = time.perf_counter()
            write = ENGINES[given.engine](graph, feeds[graph.name], made)
            seconds += time.perf_counter() - started
            write()
        renew_manifest(made, graphs)
        made.rename(given.output)
    print(json.dumps({"seconds": round(seconds, 2), "samples": len(pixels)}))


@torch.inference_mode()
def read_in_use(model: Model, graphs: list[Graph], pixels: NDArray[np.uint8]) -> dict[str, Feeds]:
    """What each graph reads while the pictures are captioned, a picture at a time.

    A decoder reads a whole caption at once, with nothing before it: the same positions.
    """
    vision, decoder = graphs
    feeds: dict[str, Feeds] = {vision.name: [], decoder.name: []}
    for part in decode(model, pixels, batch=16):
        normalised = model.preprocess.normalise(part.pixels)
        for number, said in enumerate(part.input_ids):
            picture = normalised[number : number + 1]
            cross = vision(torch.from_numpy(picture))
            made = dict(zip(vision.outputs, (each.numpy() for each in cross), strict=True))
            feeds[vision.name].append({"pixel_values": picture})
            step: dict[str, NDArray[Any]] = {
                "input_ids": said[None].numpy().astype(np.int32),
                "beam_idx": np.zeros(1, np.int32),
            }
            for name, port in decoder.inputs.items():
                if name.startswith("past_"):
                    sizes = {"Q": 1, "P": 0}
                    shape = [sizes[s] if isinstance(s, str) else s for s in port.shape]
                    step[name] = np.zeros(shape, np.float32)
            feeds[decoder.name].append(step | made)
    return feeds


def by_onnxruntime(graph: Graph, feeds: Feeds, bundle: Path) -> Write:
    """quantize_static after quant_pre_process: QDQ, 8-bit inputs, weights by channel, products."""
    from onnxruntime import quantization as ort
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[Mapping[str, Any]] = iter(feeds)

        def get_next(self) -> Mapping[str, Any] | None:
            return next(self._feeds, None)

    path = bundle / f"{graph.name}.onnx"
    ready = path.with_suffix(".ready")
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    ort.quantize_static(
        str(ready),
        str(path),
        Reader(),
        quant_format=ort.QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        activation_type=ort.QuantType.QUInt8,
        weight_type=ort.QuantType.QInt8,
        calibrate_method=ort.CalibrationMethod.MinMax,
        extra_options={"MatMulConstBOnly": True},
    )
    return ready.unlink


def by_nncf(graph: Graph, feeds: Feeds, bundle: Path) -> Write:
    """nncf.quantize of the OpenVINO model, told that it is a transformer."""
    os.environ.setdefault("NNCF_CI", "1")  # or it tells its makers
    import nncf
    import openvino

    path = bundle / f"{graph.name}.xml"
    model = openvino.Core().read_model(str(path))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(feeds),
        subset_size=len(feeds),
        model_type=nncf.ModelType.TRANSFORMER,
    )

    def write() -> None:
        written = path.with_name(f"{graph.name}-8.xml")  # the weights of the first are still in use
        openvino.save_model(quantized, str(written), compress_to_fp16=False)
        for suffix in (".xml", ".bin"):
            written.with_suffix(suffix).replace(path.with_suffix(suffix))

    return write


def by_neural_compressor(graph: Graph, feeds: Feeds, bundle: Path) -> Write:
    """export, prepare, calibrate, convert of the torch model, which is written to ONNX as it is."""
    from neural_compressor.torch.export import export
    from neural_compressor.torch.quantization import INT8StaticQuantConfig, convert, prepare

    def tensors(feed: Mapping[str, NDArray[Any]]) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(np.ascontiguousarray(feed[name])) for name in graph.inputs)

    free, room = torch.export.Dim, graph.config.text_config.max_position_embeddings
    # Tracing wants room for two of the other size.
    texts = {"T": free("T", min=1, max=room - 2), "P": free("P", min=0, max=room - 2)}
    sizes = graph.dynamic_shapes({"R": free("R", min=1), "Q": free("Q", min=1), **texts})
    flat = tuple(one for each in sizes for one in (each if isinstance(each, tuple) else (each,)))
    network = export(graph.eval(), graph.examples(), dynamic_shapes=sizes)
    network = prepare(network, INT8StaticQuantConfig())
    with torch.no_grad():
        for feed in feeds:
            network(*tensors(feed))
        network = convert(network)

    @torch.no_grad()
    def write() -> None:
        program = torch.onnx.export(
            network,
            graph.examples(),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=flat,
            opset_version=18,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        save_onnx(program.model_proto, bundle / f"{graph.name}.onnx")

    return write


ENGINES: dict[str, Callable[[Graph, Feeds, Path], Write]] = {
    "neural-compressor": by_neural_compressor,
    "nncf": by_nncf,
    "onnxruntime": by_onnxruntime,
}


def renew_manifest(bundle: Path, graphs: list[Graph]) -> None:
    """Let the manifest name the new files, or the bundle would not open."""
    document = read_json(bundle / "manifest.json")
    for graph in graphs:
        row = document["graphs"][graph.name]
        path = bundle / row["file"]
        row["sha256"] = graph_sha256(path)
        row["bytes"] = sum(part.stat().st_size for part in bundle.glob(f"{path.stem}.*"))
    write_json(bundle / "manifest.json", document)
    (bundle / "SHA256SUMS").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
