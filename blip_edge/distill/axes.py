"""What each axis of each weight runs over: the one table that cutting and scoring read.

An axis is named by the units that lie along it: `vision` and `text` are the channels of the towers'
residual streams, `embed` those of the shared space, and `vision.3.heads` the channels of the heads
of the image tower's layer 3, head by head. None is an axis that is never cut.
"""

import re
from collections.abc import Iterator

from blip_edge.models.config import BlipConfig

__all__ = ["Axes", "axes_of", "layer_of", "reads"]

Axes = tuple[str | None, ...]

_LAYER = re.compile(r"^(vision_model|text_encoder|text_decoder\.bert)\.encoder\.layers?\.(\d+)\.")
_V = (
    ("embeddings.class_embedding", (None, None, "vision")),
    ("embeddings.patch_embedding.weight", ("vision", None, None, None)),
    ("embeddings.patch_embedding.bias", ("vision",)),
    ("embeddings.position_embedding", (None, None, "vision")),
    ("post_layernorm.*", ("vision",)),
    ("@.layer_norm[12].*", ("vision",)),
    ("@.self_attn.qkv.weight", ("vision.@.qkv", "vision")),
    ("@.self_attn.qkv.bias", ("vision.@.qkv",)),
    ("@.self_attn.projection.weight", ("vision", "vision.@.heads")),
    ("@.self_attn.projection.bias", ("vision",)),
    ("@.mlp.fc1.weight", ("vision.@.neurons", "vision")),
    ("@.mlp.fc1.bias", ("vision.@.neurons",)),
    ("@.mlp.fc2.weight", ("vision", "vision.@.neurons")),
    ("@.mlp.fc2.bias", ("vision",)),
)
_T = (
    ("embeddings.(word|position)_embeddings.weight", (None, "text")),
    ("*LayerNorm.*", ("text",)),
    ("@.attention.self.(query|key|value).weight", ("text.@.heads", "text")),
    ("@.attention.self.(query|key|value).bias", ("text.@.heads",)),
    ("@.attention.output.dense.weight", ("text", "text.@.heads")),
    ("@.crossattention.self[01]?.query.weight", ("text.@.cross_heads", "text")),
    ("@.crossattention.self[01]?.(key|value).weight", ("text.@.cross_heads", "SEEN")),
    ("@.crossattention.self[01]?.(query|key|value).bias", ("text.@.cross_heads",)),
    ("@.crossattention.output.dense[01]?.weight", ("text", "text.@.cross_heads")),
    ("@.crossattention.output.merge_layer.weight", ("text", "text.twice")),
    ("@.intermediate.dense.weight", ("text.@.neurons", "text")),
    ("@.intermediate.dense.bias", ("text.@.neurons",)),
    ("@.output.dense.weight", ("text", "text.@.neurons")),
    ("*(dense[01]?|merge_layer).bias", ("text",)),
    ("predictions.bias", (None,)),
    ("predictions.transform.dense.weight", ("text", "text")),
)
_HEADS = (
    ("vision_proj.weight", ("embed", "vision")),
    ("text_proj.weight", ("embed", "text")),
    ("(vision|text)_proj.bias", ("embed",)),
    ("itm_head.weight", (None, "text")),
    ("itm_head.bias", (None,)),
    ("cls_head.0.weight", ("text", "text")),
    ("cls_head.0.bias", ("text",)),
    ("cls_head.2.weight", (None, "text")),
    ("cls_head.2.bias", (None,)),
    ("temp", ()),
)


def axes_of(config: BlipConfig, name: str) -> Axes:
    """The axes of the weight `name` of a BLIP of that kind."""
    layer = layer_of(name)
    tower, _, rest = _split(name)
    number = "" if layer is None else str(layer[1])
    answers = config.architecture == "BlipForQuestionAnswering" and "decoder" in name
    seen = "text" if answers else "vision"  # an answer is decoded from the question's states
    for pattern, axes in _rows(tower):
        if pattern.fullmatch(rest):
            named = (axis and axis.replace("@", number).replace("SEEN", seen) for axis in axes)
            return tuple(named)
    raise AssertionError(f"no axes are known of {name}")


def layer_of(name: str) -> tuple[str, int] | None:
    """(`vision` or `text`, number) of the layer that a weight is in, if it is in one."""
    found = _LAYER.match(name)
    if found is None:
        return None
    return ("vision" if found[1] == "vision_model" else "text"), int(found[2])


def reads(name: str, axes: Axes) -> str | None:
    """The units whose output a matrix multiplies, if it is one."""
    if len(axes) != 2 or ".embeddings." in name:
        return None
    return axes[1]


def _split(name: str) -> tuple[str, int | None, str]:
    """Tower, layer and the rest of a name, in which `@.` stands for the layer."""
    layer = layer_of(name)
    rest = _LAYER.sub("@.", name)
    for prefix, tower in (
        ("vision_model.", "vision"),
        ("text_encoder.", "text"),
        ("text_decoder.bert.", "text"),
        ("text_decoder.cls.", "text"),
    ):
        if name.startswith(prefix):
            return tower, layer and layer[1], rest.removeprefix(prefix)
    return "", None, rest


def _rows(tower: str) -> Iterator[tuple[re.Pattern[str], Axes]]:
    return iter(_TABLES[tower])


def _compiled(rows: tuple[tuple[str, Axes], ...]) -> list[tuple[re.Pattern[str], Axes]]:
    """In the tables a dot is a dot and a star anything."""
    return [(re.compile(row.replace(".", r"\.").replace("*", ".*")), axes) for row, axes in rows]


_TABLES = {"vision": _compiled(_V), "text": _compiled(_T), "": _compiled(_HEADS)}
