"""What a runtime makes of the graphs' attention and GELU: few operators, and the fast ones."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.exporters import export
from blip_edge.exporters.onnx_functions import translations
from blip_edge.exporters.recipe import ExportRecipe
from tests.export.conftest import lively_model, save

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


class Functions(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        return (
            F.gelu(q),
            F.scaled_dot_product_attention(q, k, v),
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        )


@pytest.mark.parametrize("opset", [18, 20])
def test_they_compute_what_torch_computes(opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = [torch.randn(2, 3, 4, 8) * 3, torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)]
    given.append(torch.randn(2, 1, 4, 5) * 5)
    program = torch.onnx.export(
        Functions().eval(), tuple(given), dynamo=True, opset_version=opset, verbose=False,
        custom_translation_table=translations(opset),
    )  # fmt: skip
    assert program is not None
    program.save(tmp_path / "f.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "f.onnx")
    names = [port.name for port in session.get_inputs()]
    found = session.run(None, dict(zip(names, (each.numpy() for each in given), strict=True)))
    for mine, theirs in zip(found, Functions()(*given), strict=True):
        torch.testing.assert_close(torch.from_numpy(mine), theirs, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def optimised(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """The nodes that ONNX Runtime runs, by graph."""
    folder = tmp_path_factory.mktemp("functions")
    model = save(folder / "model", lively_model())
    bundle = export(model, folder / "onnx", target="onnx", recipe=ExportRecipe(golden=1))
    found = {}
    for name in ("vision", "decoder"):
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(folder / f"{name}.onnx")
        onnxruntime.InferenceSession(bundle / f"{name}.onnx", options)
        found[name] = list(onnx.load(folder / f"{name}.onnx").graph.node)
    return found


def test_gelu_is_one_operator(optimised: dict[str, list[Any]]) -> None:
    for name, nodes in optimised.items():
        kinds = Counter(node.op_type for node in nodes)
        assert kinds["Erf"] == 0, name
        assert kinds["Gelu"] + kinds["BiasGelu"] > 0, name


def test_a_step_reads_keys_of_the_picture_by_the_kernel_for_one_row(
    optimised: dict[str, list[Any]],
) -> None:
    readers = [
        node
        for node in optimised["decoder"]
        if any(name.startswith("cross_key") for name in node.input)
    ]
    assert readers and {node.op_type for node in readers} == {"MatMul"}, "a scale is joined to it"


def test_an_attention_puts_no_sizes_together(optimised: dict[str, list[Any]]) -> None:
    kinds = Counter(node.op_type for node in optimised["decoder"])
    layers = sum(name.startswith("cross_key") for n in optimised["decoder"] for name in n.input)
    assert kinds["Slice"] < 2 * layers, kinds
