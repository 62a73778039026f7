"""The bundles that `cpu_inference.py` races, made as a user makes them: by the command line.

Everything lies in a work folder, a folder of it for each model. What is there already is kept, so
that a run which was killed goes on.
"""

import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from cpu_tasks import ModelName, Sizes, inputs, write_weights

from blip_edge.cli import main
from blip_edge.preprocess import Preprocess


class Bundle(NamedTuple):
    """How a bundle is made, and for which models."""

    target: str
    precision: str
    """Of the weights: int4 is a decoder in 4 bits beside everything else in 8."""
    settings: tuple[str, ...] = ()
    decodes: bool = False
    """Only of models that have a decoder: of others it would be the same as another one."""


_MIXED = ("encoders=openvino",)
BUNDLES = {
    **{
        f"{target}-{precision}": Bundle(target, precision)
        for target in ("onnx", "openvino")
        for precision in ("fp32", "int8")
    },
    # On OpenVINO 4 bits gain nothing: its step waits for something else than the weights.
    "onnx-int4": Bundle("onnx", "int4", decodes=True),
    **{
        f"mixed-{precision}": Bundle("onnx", precision, _MIXED, decodes=True)
        for precision in ("fp32", "int8", "int4")
    },
}
_QUANTIZED = {
    "int8": ("quantized", ()),
    "int4": ("quantized-int4", ("decoder_mode=weight-only", "weight_bits=4", "group_size=64")),
}
"""A folder, and what is asked for beside what both are."""
_QUANTIZE = ("samples=8", "batch=1", "observer=min-max", "sensitivity=none", "eval_items=0")
# Two logits of random weights are all but equal, so that their rounding is large beside them.
_EXPORT = ("golden=1", "int8_psnr=10")
_PICTURES = ("train=16", "val=8", "test=4", "unseen=2", "web=0", "dialogs=0", "clips=0")


class Unavailable(Exception):
    """Something that could not be made, in one line."""


def prepare(work: Path, name: ModelName, sizes: Sizes, wanted: set[str]) -> dict[str, str]:
    """Make one model's folders; those of `wanted` bundles that could not be made, and why.

    Under `work`/`name` are: hf (weights), pixels.npy, model, quantized, and the bundles by name.
    """
    folder, failed = work / name, dict[str, str]()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "hf" / "vocab.txt").is_file():  # which is written last
        write_weights(folder / "hf", name, sizes)
    pixels = Preprocess(size=sizes.image)([inputs(folder / "hf", sizes).picture])
    np.save(folder / "pixels.npy", pixels)
    vocabulary = folder / "hf" / "vocab.txt"
    _run(folder / "model", "import", folder / "hf", "--task", name, "--tokenizer", vocabulary)
    for bundle in sorted(wanted & BUNDLES.keys()):
        target, precision, settings, _ = BUNDLES[bundle]
        try:
            whole = precision == "fp32"
            model = folder / "model" if whole else _quantized(work, folder, precision)
            how = ("--target", target, "--precision", "fp32" if whole else "int8")
            how += tuple(_set(_EXPORT + settings))
            _run(folder / bundle, "export", model, *how)
        except Unavailable as error:
            failed[bundle] = str(error)
    return failed


def _quantized(work: Path, folder: Path, precision: str) -> Path:
    name, settings = _QUANTIZED[precision]
    _run(work / "shapes", "data", "make", "shapes", *_set(_PICTURES))
    how = ("--data", work / "shapes", *_set(_QUANTIZE + settings))
    _run(folder / name, "quantize", folder / "model", *how)
    return folder / name


def _set(settings: tuple[str, ...]) -> Iterator[str]:
    for setting in settings:
        yield from ("--set", setting)


def _run(output: Path, *argv: str | Path) -> None:
    """One verb, unless what it writes is there.

    Raises:
        Unavailable: it failed.
    """
    if output.exists():
        return
    words = [*map(str, argv), "-o", str(output)]
    print("blip-edge", *words, file=sys.stderr, flush=True)
    said = StringIO()
    # In this process: a new one for each verb would import torch again.
    with patch.object(sys, "argv", ["blip-edge", *words, "--quiet"]), redirect_stderr(said):
        try:
            with redirect_stdout(StringIO()):
                main()
        except SystemExit as stop:
            if stop.code:
                last = next(reversed(said.getvalue().strip().splitlines()), "no message")
                raise Unavailable(f"{argv[0]}: {last.removeprefix('error: ')}") from None


def file_bytes(folder: Path, suffixes: tuple[str, ...]) -> int:
    """Bytes of the graphs or weights in `folder`."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix in suffixes)
