"""Pictures to what texts read of them, once and for all."""

# N image tokens · H heads · K width of a head · S image side · E width of the shared space

from torch import Tensor

from blip_edge.exporters.graphs.graph import Graph, cross_ports, flat, projections
from blip_edge.models.blip import Blip
from blip_edge.runtime.manifest import Port

__all__ = ["VisionGraph"]


class VisionGraph(Graph):
    """(1, 3, S, S) pixels to each layer's cross-attention keys and values.

    A model that compares also gives the picture's unit vector, `image_embeds` (1, E). One that
    judges sentences takes two pictures (2, 3, S, S), the left one first, and gives `left_key_i` and
    `left_value_i` of all layers i, and then the same of the right picture.
    """

    name = "vision"

    def __init__(self, blip: Blip) -> None:
        config = blip.config
        # Where encoder and decoder both read pictures they share the layers that do.
        self._tower = "text_decoder" if config.captions else "text_encoder"
        reader = blip.decoder.bert if config.captions else blip.encoder
        heads = ["vision_proj"] if config.parts.compares else []
        used = [blip.vision_model, *projections(reader), *(getattr(blip, head) for head in heads)]
        super().__init__(blip, ["vision_model", self._tower, *heads], used)
        side, tokens = config.vision_config.image_size, config.vision_config.num_output_tokens
        pictures, sides = (2, ("left", "right")) if config.parts.twin else (1, ("cross",))
        self.inputs = {"pixel_values": Port((pictures, 3, side, side), "float32")}
        self.outputs = {}
        for name in sides:
            self.outputs |= cross_ports(config.text_config, name, tokens)
        if heads:
            self.outputs["image_embeds"] = Port((1, config.image_text_hidden_size), "float32")

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """The declared outputs, in their order."""
        seen = self.image_tokens(pixel_values)
        if self.config.parts.twin:
            both = self.encoder.twin_cross(*seen.chunk(2))
            return flat([layer.left for layer in both]) + flat([layer.right for layer in both])
        reader = self.decoder.bert if self.config.captions else self.encoder
        cross = flat(reader.cross(seen))
        return (*cross, self.embed_image(seen)) if self.config.parts.compares else cross
