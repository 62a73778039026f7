"""What a recipe says of a layer before anything is measured.

The decoder may go another way than the rest: a step of it reads every weight for one token, so that
small weights count and fast products do not, while an image tower has hundreds of tokens a weight.
"""

from torch import nn

from blip_edge.models.quantized import Form, LayerDecision, runs_at_every_step
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.search import affine

__all__ = ["form_of", "layer_decision", "table_decision"]


def form_of(path: str, recipe: QuantizeRecipe) -> Form:
    """How the layer at `path` computes if nothing speaks against it."""
    mode = recipe.mode
    if recipe.decoder_mode and runs_at_every_step(path):
        mode = recipe.decoder_mode
    return "static" if mode == "qat" else mode


def layer_decision(
    path: str, layer: nn.Linear, span: tuple[float, float] | None, recipe: QuantizeRecipe
) -> LayerDecision:
    """What `recipe` says of the layer at `path`, whose input has the range `span` if it is static.

    4 bits take whole groups of inputs; a layer that has others is left in 8.
    """
    form = form_of(path, recipe)
    if form == "dynamic":
        return LayerDecision(
            decision="int8", weight_bits=8, activation_bits=8, why="range found at each run"
        )
    if form == "weight-only":
        return _weights(layer.in_features, recipe)
    if span is None:
        why = "what the model is for does not run it: no range is known"
        if recipe.engine != "blip-edge":
            why = f"{recipe.engine} found no 8-bit range for what it reads"
        return LayerDecision(decision="float", why=why)
    scale, zero = affine(*span)
    return LayerDecision(
        decision="int8",
        weight_bits=8,
        activation_bits=8,
        input_scale=scale,
        input_zero_point=zero,
        input_range=span,
        why=f"range by {recipe.range_observer}{_by(recipe)}",
    )


def table_decision(path: str, table: nn.Embedding, recipe: QuantizeRecipe) -> LayerDecision:
    """What `recipe` says of the word table at `path`, which is looked up in any mode."""
    if form_of(path, recipe) == "weight-only":
        return _weights(table.embedding_dim, recipe)
    return LayerDecision(decision="int8", weight_bits=8, why="a table, a scale for each word")


def _weights(inputs: int, recipe: QuantizeRecipe) -> LayerDecision:
    if recipe.weight_bits == 8:
        return LayerDecision(decision="int8", weight_bits=8, why="inputs in float")
    if inputs % recipe.group_size:
        why = f"{inputs} inputs are no whole number of groups of {recipe.group_size}"
        return LayerDecision(decision="int8", weight_bits=8, why=f"8 bits: {why}")
    return LayerDecision(
        decision="int8", weight_bits=4, group_size=recipe.group_size, why="inputs in float"
    )


def _by(recipe: QuantizeRecipe) -> str:
    return "" if recipe.engine == "blip-edge" else f" of {recipe.engine}"
