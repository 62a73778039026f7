"""Ranges by Intel Neural Compressor (3.x, PT2E): export, prepare, calibrate, convert, read.

The exported network gets an observer at every product's input; what `convert` writes there as
quantize_per_tensor has the scale and the zero point of our own form. Its `minmax` is a moving
average of each batch's extremes (0.99 of the old, 0.01 of the new), `kl` is torchao's histogram
observer, which searches the least squared error. Products of one tensor share its range.

With observer "autotune" its `autotune` goes through its configurations of static quantization, and
takes the first whose metric, measured by us, is within the tolerance, else the best.
Source: https://github.com/intel/neural-compressor, docs/source/3x/PT_StaticQuant.md.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from blip_edge.errors import import_extra
from blip_edge.models.folder import Model
from blip_edge.quantize.engines.steps import Span, joined, span_of
from blip_edge.quantize.engines.whole import Feed, Whole, feeds_of, path_of
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.uses import Use
from blip_edge.quiet import quiet

__all__ = ["Judge", "exported", "find_ranges", "require", "spans_in"]

Judge = Callable[[Mapping[str, Span | None]], float]
"""The metric of the model with these ranges, by path; of none, the float model's."""
_ALGORITHMS = {"mean-min-max": "minmax", "mse": "kl"}
_SYMMETRIC = (False, True)
# A share of the float model's metric is asked for, and it may be zero.
_LEAST_METRIC = 1e-12


def find_ranges(
    model: Model, seen: Sequence[Use], recipe: QuantizeRecipe, judge: Judge
) -> dict[str, Span | None]:
    """The range of each product's input, by the path of its layer.

    Raises:
        MissingExtraError: neural-compressor is not installed.
    """
    torch_api = require()
    whole, feeds = Whole(model), feeds_of(model, seen)
    run = partial(_run, feeds)
    with quiet():
        network = exported(whole, feeds)
        if recipe.range_observer != "autotune":
            config = torch_api.INT8StaticQuantConfig(act_algo=_ALGORITHMS[recipe.range_observer])
            network = torch_api.prepare(network, config)
            run(network)
            return spans_in(torch_api.convert(network))
        return spans_in(_tuned(torch_api, network, run, recipe, judge))


def _tuned(
    torch_api: Any,
    network: Any,
    run: Callable[[nn.Module], None],
    recipe: QuantizeRecipe,
    judge: Judge,
) -> Any:
    """The converted network that `autotune` settles for."""
    configurations = [
        torch_api.INT8StaticQuantConfig(act_algo=algorithm, act_sym=symmetric)
        for algorithm in _ALGORITHMS.values()
        for symmetric in _SYMMETRIC
    ]
    tuning = torch_api.TuningConfig(
        configurations, tolerable_loss=recipe.tolerance, max_trials=len(configurations)
    )
    return torch_api.autotune(
        network,
        tuning,
        eval_fn=lambda found: max(judge(spans_in(found)), _LEAST_METRIC),
        run_fn=run,
    )


def require() -> Any:
    """Its operations on torch's models.

    Raises:
        MissingExtraError: neural-compressor is not installed.
    """
    with quiet():
        import_extra("torchao", "inc")
        return import_extra("neural_compressor.torch.quantization", "inc")


def exported(whole: Whole, feeds: Sequence[Feed]) -> Any:
    """`whole` as these operations take it: by its own program, which traces strictly.

    Otherwise the head would share a node with the word table, and be left out for that.
    """
    export = import_extra("neural_compressor.torch.export", "inc").export
    return export(whole, whole.example(feeds[0]), dynamic_shapes=whole.free_sizes(feeds[0]))


@torch.no_grad()
def _run(feeds: Sequence[Feed], network: nn.Module) -> None:
    for feed in feeds:
        network(*feed)


def spans_in(network: Any) -> dict[str, Span | None]:
    """The ranges that a converted network's products read, by path; of a float network, none."""
    found: dict[str, Span | None] = {}
    for node in network.graph.nodes:
        if node.target is not torch.ops.aten.linear.default:
            continue
        source = node.args[0]
        if source.target is not torch.ops.quantized_decomposed.dequantize_per_tensor.default:
            continue
        path = path_of(list(node.meta["nn_module_stack"].values())[-1][0])
        scale, zero, first, last = source.args[1:5]
        found[path] = joined(found.get(path), span_of(scale, zero, first, last))
    return found
