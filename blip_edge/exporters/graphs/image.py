"""The image tower behind a picture as an app has it: bytes, normalised inside the graph."""

# S image side

import torch
from torch import Tensor, nn

from blip_edge.exporters.graphs.vision import VisionGraph
from blip_edge.models.blip import Blip
from blip_edge.preprocess import Preprocess
from blip_edge.runtime.manifest import Port

__all__ = ["ImageVisionGraph"]


class ImageVisionGraph(VisionGraph):
    """RGB pictures of S x S pixels, each an input (1, 3, S, S) of its own, to `VisionGraph`'s
    outputs.

    Core ML's image inputs know one factor for all channels, BLIP three deviations: so all of the
    normalisation is here: one difference, and then one product, as coremltools would make a
    batch_norm of a product and a sum, which adds its epsilon.
    """

    def __init__(self, blip: Blip, preprocess: Preprocess) -> None:
        super().__init__(blip)
        self.preprocess = preprocess
        names = ("left_image", "right_image") if blip.config.parts.twin else ("image",)
        side = preprocess.size
        self.inputs = {name: Port((1, 3, side, side), "uint8") for name in names}
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (preprocess.mean, preprocess.std))
        self.mean = nn.Buffer(255 * mean)
        self.scale = nn.Buffer(1 / (255 * std))
        self.notes = (
            f"vision takes RGB pictures of {side}x{side} pixels (CVPixelBuffer) and normalises "
            "them itself: " + ", ".join(names) + ".",
        )

    def examples(self, sizes: object = None, seed: int = 0) -> tuple[Tensor, ...]:
        """Random pictures, in float32, as Core ML hands them over."""
        generator = torch.Generator().manual_seed(seed)
        shapes = [port.shape for port in self.inputs.values()]
        return tuple(
            torch.randint(0, 256, shape, generator=generator).float()  # type: ignore[arg-type]
            for shape in shapes
        )

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """The outputs of `VisionGraph`."""
        pictures = images[0] if len(images) == 1 else torch.cat(images)
        return super().forward((pictures - self.mean) * self.scale)
