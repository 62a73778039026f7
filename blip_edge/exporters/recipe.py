"""What an export may be told."""

from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import ConfigDict

__all__ = ["ExportRecipe", "ExportTarget", "Precision"]

ExportTarget = Literal["onnx", "openvino", "coreml", "executorch", "huggingface"]
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, kw_only=True)
class ExportRecipe:
    """How a model becomes a bundle, and how exact the bundle must be to be one."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    precision: Literal["auto", "fp32", "fp16", "int8"] = "auto"
    """auto: int8 when the model was quantized, else fp32 (Core ML: fp16)."""
    autotune: bool = False
    """ONNX and OpenVINO in int8: make bundles of other forms of the layers that were decided on,
    measure them on this machine, and keep the fastest that passes the gates."""
    tune_rounds: int = 15
    """How often each is measured, in turns."""
    tune_loss: float = 3.0
    """Decibels that another form may be farther from the float model than what was decided."""
    opset: int = 18
    """ONNX operator set. 18 runs on ONNX Runtime's mobile and web builds since 1.14."""
    encoders: Literal["onnxruntime", "openvino"] = "onnxruntime"
    """ONNX: what runs every graph but the decoder. OpenVINO multiplies large matrices faster, ONNX
    Runtime steps faster; with both installed a caption is fastest so. The files are the same."""
    rows: int = 0
    """Core ML: beams that the decoder is built for; 0: as many as the model decodes with."""
    length: int = 0
    """Core ML: tokens that the decoder's cache holds, prompt included; 0: as max_length."""
    text_rows: int = 0
    """Core ML: texts that are read at once, where there may be several; 0: 8."""
    text_length: int = 0
    """Core ML: tokens of a text or question, padding included; 0: as many as BLIP reads, 35, and 64
    of a sentence about two pictures. Longer texts are cut."""
    ios: int = 17
    """Core ML: least version that runs it, 17 or 18 (macOS 14 or 15). At 18 the decoder keeps its
    cache as state on the device."""
    image_input: bool = False
    """Core ML: pictures go in as an app has them (CVPixelBuffer), and are normalised inside."""
    activations: Literal["float", "int8"] = "float"
    """Core ML in int8: int8 rounds the inputs of static layers too. Neural Engines from A17 Pro and
    M4 on multiply such layers in 8 bits; on anything else the rounding is work without gain."""
    multifunction: bool = False
    """Core ML from ios 18 on: graphs with weights in common are functions of one file, which holds
    those once."""
    palette_bits: int = 0
    """Core ML: 4 or 6 store each weight matrix as 16 or 64 values and indices into them; 0: no."""
    golden: int = 4
    """Pictures that go into the bundle with their expected pixels, captions and logits."""
    teacher_forced: int = 40
    """Tokens that the gate forces through the decoder, if the model has as many positions. More
    than 32, because some runtimes' errors only show in a long cache."""
    max_abs_diff: float = 1e-4
    """fp32: largest difference of any output from torch, as a share of that output's largest value
    where it is above 1."""
    fp16_psnr: float = 35.0
    """fp16: least peak signal to noise, in dB, of any output against torch."""
    int8_psnr: float = 30.0
    """int8: least peak signal to noise, in dB, of any output against the 8-bit model in torch."""
    gate_items: int = 200
    """With a data set: pictures, questions or sentences of its validation split, at most, on which
    the bundle is as good as torch; 0: it is not tried."""
    metric_share: float = 0.99
    """Least share of torch's metric there. On fewer than 200 items two may be worse."""
    palette_psnr: float = 20.0
    """palette_bits: least peak signal to noise, in dB, of any output against torch in float."""

    def __post_init__(self) -> None:
        if not 18 <= self.opset <= 20:
            raise ValueError(f"opset must be 18 to 20, got {self.opset}")
        for name in ("rows", "length", "text_rows", "text_length"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.ios not in (17, 18):
            raise ValueError(f"ios must be 17 or 18, got {self.ios}")
        if self.multifunction and self.ios < 18:
            raise ValueError(f"multifunction needs ios 18 (--set ios=18), got {self.ios}")
        if self.encoders not in ("onnxruntime", "openvino"):
            raise ValueError(f"encoders is onnxruntime or openvino, not {self.encoders!r}")
        if self.activations not in ("float", "int8"):
            raise ValueError(f"activations is float or int8, not {self.activations!r}")
        if self.palette_bits not in (0, 4, 6):
            raise ValueError(f"palette_bits must be 0, 4 or 6, got {self.palette_bits}")
        if self.golden < 1:
            raise ValueError(f"golden must be at least 1, got {self.golden}")
        if self.teacher_forced < 2:
            raise ValueError(f"teacher_forced must be at least 2, got {self.teacher_forced}")
        if self.tune_rounds < 1 or self.tune_loss < 0:
            raise ValueError("tune_rounds must be at least 1, and tune_loss not negative")
        if self.gate_items < 0:
            raise ValueError(f"gate_items must not be negative, got {self.gate_items}")
        if not 0 < self.metric_share <= 1:
            raise ValueError(f"metric_share must be over 0 and at most 1, got {self.metric_share}")
        if self.max_abs_diff <= 0:
            raise ValueError(f"max_abs_diff must be positive, got {self.max_abs_diff}")
        if self.precision not in ("auto", *get_args(Precision)):
            raise ValueError(f"precision is auto, fp32, fp16 or int8, not {self.precision!r}")
