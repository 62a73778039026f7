"""Weights: every key is accounted for, and a value that is no number never gets in."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from blip_edge.errors import ArtifactError
from blip_edge.models import build
from blip_edge.models.vit import interpolate_positions
from blip_edge.models.weights import (
    as_weights,
    blank,
    fill,
    load_state,
    read_weights,
    restore,
    save_weights,
)
from tests import tiny

QUERY = "text_decoder.bert.encoder.layer.0.attention.self.query.weight"
POSITIONS = "vision_model.embeddings.position_embedding"


def state() -> dict[str, Tensor]:
    return dict(tiny.lively(tiny.config()).state_dict())


def test_weights_come_back_exactly(tmp_path: Path) -> None:
    blip = tiny.lively(tiny.config())
    save_weights(blip, tmp_path / "model.safetensors")
    again = build(tiny.config())
    load_state(again, read_weights(tmp_path / "model.safetensors"), source="x")
    for name, tensor in blip.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_weights_that_change_leave_their_file_alone(tmp_path: Path) -> None:
    """They are not copied when they are read: a model would train into its parent's folder."""
    path = tmp_path / "model.safetensors"
    save_weights(tiny.lively(tiny.config()), path)
    before = path.read_bytes()
    blip = restore(tiny.config(), read_weights(path), source="x")
    with torch.no_grad():
        for parameter in blip.parameters():
            parameter.zero_()
    assert path.read_bytes() == before


def test_a_blank_network_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw on the meta device torch imports its compiler, which takes longer than loading."""
    for name in ("normal_", "uniform_"):
        monkeypatch.setattr(Tensor, name, lambda *_, **__: pytest.fail("drawn"))
    names = {name: tensor.shape for name, tensor in blank(tiny.config()).state_dict().items()}
    monkeypatch.undo()
    assert names == {n: t.shape for n, t in build(tiny.config()).state_dict().items()}


def test_weights_can_be_read_by_whoever_can_read_the_folder(tmp_path: Path) -> None:
    save_weights(tiny.lively(tiny.config()), tmp_path / "model.safetensors")
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    """They would caption every picture alike, and no later check would say why."""
    tensors = state()
    tensors[QUERY][1, 2] = value
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match=rf"model\.safetensors: {QUERY} holds values"):
        read_weights(tmp_path / "model.safetensors")


def test_halves_are_read_as_float32(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2, dtype=torch.bfloat16), "b": torch.arange(3)}
    save_file(tensors, tmp_path / "x.safetensors")
    read = read_weights(tmp_path / "x.safetensors")
    assert (read["a"].dtype, read["b"].dtype) == (torch.float32, torch.int64)


def test_what_is_no_weights_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ArtifactError, match=r"model\.safetensors is missing"):
        read_weights(path)
    for content in (b"", b"\x80\x02}q\x00.", b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"model\.safetensors is not a safetensors file"):
            read_weights(path)


def test_every_kind_of_misfit_is_listed() -> None:
    tensors = state()
    del tensors[QUERY]
    tensors["surplus.weight"] = torch.zeros(1)
    tensors["vision_model.post_layernorm.bias"] = torch.zeros(7)
    with pytest.raises(ArtifactError) as caught:
        load_state(build(tiny.config()), tensors, source="dir/model.safetensors")
    message = str(caught.value)
    assert message.startswith("dir/model.safetensors does not fit the configuration: ")
    assert "1 unexpected (surplus.weight)" in message
    assert f"1 missing ({QUERY})" in message
    assert "vision_model.post_layernorm.bias (7,) instead of (32,)" in message


def test_whole_numbers_are_no_weights() -> None:
    with pytest.raises(ArtifactError, match=rf"1 of whole numbers \({QUERY}\)"):
        load_state(build(tiny.config()), state() | {QUERY: torch.zeros(16, 16).long()}, source="x")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1, 2], "holds no named weights"),
        ({}, "holds no named weights"),
        ({"a": torch.ones(1), "b": 3, 4: torch.ones(1)}, "holds more than named weights: b, 4"),
        ({"a": torch.eye(3).to_sparse()}, "holds more than named weights: a"),
        ({"a": torch.ones(1, device="meta")}, "holds more than named weights: a"),
        ({"a": torch.tensor([1e300], dtype=torch.float64)}, "a holds values that are not finite"),
    ],
)
def test_what_is_no_mapping_to_numbers_is_refused(values: Any, reason: str) -> None:
    with pytest.raises(ArtifactError, match=f"dir/x {reason}|dir/x: {reason}"):
        as_weights(values, source="dir/x")


def test_a_large_sum_is_no_infinity() -> None:
    values = {"a": torch.full((4,), 3e38)}
    assert torch.equal(as_weights(values, source="x")["a"], values["a"])


def test_repeated_numbers_become_numbers_of_their_own() -> None:
    """A view that names one number many times cannot be trained."""
    read = as_weights({"a": torch.ones(1).expand(8)}, source="x")["a"]
    assert len({read[n].data_ptr() for n in range(8)}) == 8


def test_weights_that_are_two_lie_apart_in_memory() -> None:
    """Pickled files keep tied weights in one place; in a model that does not tie them, one would
    change with the other, and be stored once.
    """
    config = tiny.config("BlipForQuestionAnswering")
    tensors = dict(tiny.lively(config).state_dict())
    mine, theirs = (
        f"text_{part}.embeddings.word_embeddings.weight" for part in ("encoder", "decoder.bert")
    )
    tensors[theirs] = tensors[mine]
    kept = dict(restore(config, tensors, source="x").named_parameters())
    assert torch.equal(kept[mine], kept[theirs])
    assert kept[mine].data_ptr() != kept[theirs].data_ptr()


def test_a_part_may_keep_what_it_is_not_given() -> None:
    blip = build(tiny.config())
    fresh = {name: tensor.clone() for name, tensor in blip.state_dict().items()}
    given = {n: t for n, t in state().items() if ".crossattention." not in n}
    with pytest.raises(ArtifactError, match=r"missing \(.*crossattention"):
        fill(blip, given, source="x")
    fill(blip, given, source="x", fresh=r"\.crossattention\.")
    for name, tensor in blip.state_dict().items():
        assert torch.equal(tensor, given.get(name, fresh[name])), name


def test_a_long_list_of_misfits_stays_one_line() -> None:
    with pytest.raises(ArtifactError, match=r"\d+ missing \([^,]+, [^,]+, [^,]+, …\)"):
        load_state(build(tiny.config()), {}, source="x")


def test_a_model_is_not_half_changed_by_weights_that_do_not_fit() -> None:
    blip = build(tiny.config())
    before = {name: tensor.clone() for name, tensor in blip.state_dict().items()}
    with pytest.raises(ArtifactError):
        load_state(blip, state() | {"surplus": torch.zeros(1)}, source="x")
    assert all(torch.equal(before[name], tensor) for name, tensor in blip.state_dict().items())


def test_buffers_and_tied_copies_of_other_writers_pass() -> None:
    weights = state()
    words = weights["text_decoder.bert.embeddings.word_embeddings.weight"]
    others = {
        "text_decoder.bert.embeddings.position_ids": torch.arange(48)[None],
        "text_decoder.cls.predictions.decoder.weight": words,
        "text_decoder.cls.predictions.decoder.bias": weights["text_decoder.cls.predictions.bias"],
        "logit_scale": torch.tensor(2.6),
    }
    load_state(build(tiny.config()), weights | others, source="x")


def test_shared_weights_may_be_stored_once_or_twice(tmp_path: Path) -> None:
    """Pre-training shares most of the encoder with the decoder; files differ in what they keep."""
    config = tiny.config("BlipForPreTraining")
    blip = tiny.lively(config)
    twice = {name: tensor.clone() for name, tensor in blip.state_dict().items()}
    save_weights(blip, tmp_path / "once.safetensors")
    once = read_weights(tmp_path / "once.safetensors")
    assert len(once) < len(twice)
    for stored in (once, twice):
        again = build(config)
        load_state(again, stored, source="x")
        for name, tensor in blip.state_dict().items():
            assert torch.equal(again.state_dict()[name], tensor), name
    encoder = "text_encoder.encoder.layer.0.attention.self.query.weight"
    with pytest.raises(ArtifactError, match=f"1 missing \\({encoder}\\)"):
        load_state(build(config), {n: t for n, t in once.items() if n != encoder}, source="x")


def test_positions_of_another_picture_size_are_resized_as_blips_loader_does() -> None:
    old = torch.randn(1, 17, 6)  # a grid of 4 x 4
    new = interpolate_positions(old, 26)
    grid = old[:, 1:].reshape(1, 4, 4, 6).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(5, 5), mode="bicubic", align_corners=False)
    assert torch.equal(new[:, :1], old[:, :1])
    torch.testing.assert_close(new[:, 1:], grid.permute(0, 2, 3, 1).reshape(1, 25, 6))


def test_positions_keep_rows_and_columns_apart() -> None:
    """A gradient from left to right stays one; transposed grids pass a check of shapes alone."""
    columns = torch.arange(4.0).repeat(4)[None, :, None]
    new = interpolate_positions(torch.cat([torch.zeros(1, 1, 1), columns], dim=1), 65)
    grid = new[0, 1:, 0].reshape(8, 8)
    assert (grid.diff(dim=1) > -0.2).all() and grid[0, -1] > 2.5 > 0.5 > grid[0, 0]
    torch.testing.assert_close(grid, grid[:1].expand(8, 8), rtol=0, atol=1e-5)


def test_positions_of_the_same_size_are_left_alone() -> None:
    positions = torch.randn(1, 10, 4)
    assert interpolate_positions(positions, 10) is positions


def test_positions_of_no_square_grid_name_their_file() -> None:
    tensors = state() | {POSITIONS: torch.zeros(1, 12, 32)}
    with pytest.raises(ArtifactError, match=rf"^x: {POSITIONS}: .*must be a square grid"):
        load_state(build(tiny.config()), tensors, source="x")


@pytest.mark.parametrize(("old", "new"), [(12, 26), (17, 12)])
def test_positions_of_no_square_grid_are_refused(old: int, new: int) -> None:
    with pytest.raises(ArtifactError, match=f"for {old} tokens cannot be resized to {new}"):
        interpolate_positions(torch.zeros(1, old, 2), new)


@pytest.mark.parametrize("shape", [(3,), (1, 1, 32), (2, 17, 32), (1, 17, 8)])
def test_positions_that_are_no_grid_of_this_width_are_of_another_shape(
    shape: tuple[int, ...],
) -> None:
    with pytest.raises(ArtifactError, match=rf"{POSITIONS} .* instead of \(1, 10, 32\)"):
        load_state(build(tiny.config()), state() | {POSITIONS: torch.zeros(shape)}, source="x")
