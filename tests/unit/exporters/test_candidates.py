"""Forms that autotune tries, and the race between them."""

from typing import Any

import pytest

from blip_edge.errors import ArtifactError
from blip_edge.exporters import stopwatch
from blip_edge.exporters.candidates import DECIDED, HEAD_IN_FLOAT, candidates, in_form
from blip_edge.exporters.stopwatch import race
from blip_edge.models.quantized import HEAD, Form, LayerDecision, Quantization

STATIC = LayerDecision(
    decision="int8",
    weight_bits=8,
    activation_bits=8,
    input_scale=0.1,
    input_zero_point=3,
    input_range=(-0.3, 25.2),
)
DYNAMIC = LayerDecision(decision="int8", weight_bits=8, activation_bits=8)
EIGHT = LayerDecision(decision="int8", weight_bits=8)
FOUR = LayerDecision(decision="int8", weight_bits=4, group_size=32)
FLOAT = LayerDecision(decision="float", why="fall-back")
QKV = "vision_model.encoder.layers.0.self_attn.qkv"
FC1 = "vision_model.encoder.layers.0.mlp.fc1"
ALL: tuple[Form, ...] = ("static", "dynamic", "weight-only")
NO_DYNAMIC: tuple[Form, ...] = ("static", "weight-only")


def decided(**layers: LayerDecision) -> Quantization:
    return Quantization(
        mode="static", layers={QKV: layers["qkv"], FC1: FLOAT, HEAD: layers["head"]}
    )


def forms(quantization: Quantization, form: str) -> list[str]:
    return [layer.name for layer in in_form(quantization, form).layers.values()]


def test_what_is_static_may_round_its_inputs_less() -> None:
    found = decided(qkv=STATIC, head=STATIC)
    assert candidates(found, ALL) == [
        DECIDED,
        "weight-only",
        "dynamic",
        "decoder weight-only",
        "dynamic, decoder weight-only",
    ]
    assert forms(found, "dynamic") == ["dynamic", "float", "dynamic"]
    assert forms(found, "decoder weight-only") == ["static", "float", "weight-only 8"]
    assert in_form(found, DECIDED) == found
    assert in_form(found, "weight-only").layers[QKV] == EIGHT


def test_a_head_may_keep_its_inputs_alone() -> None:
    found = decided(qkv=STATIC, head=STATIC)
    assert forms(found, HEAD_IN_FLOAT) == ["static", "float", "weight-only 8"]
    assert forms(decided(qkv=DYNAMIC, head=FOUR), HEAD_IN_FLOAT) == [
        "dynamic",
        "float",
        "weight-only 4",
    ]
    without = Quantization(mode="static", layers={QKV: STATIC})
    assert in_form(without, HEAD_IN_FLOAT) == without, "a model that says nothing has no head"


def test_nothing_is_rounded_more_than_was_decided() -> None:
    """Every candidate, of every pair of decisions: no fewer bits of weights or of inputs."""
    for qkv in (STATIC, DYNAMIC, EIGHT, FOUR, FLOAT):
        for head in (STATIC, DYNAMIC, EIGHT, FOUR, FLOAT):
            found = decided(qkv=qkv, head=head)
            for form in candidates(found, ALL):
                for path, layer in in_form(found, form).layers.items():
                    before = found.layers[path]
                    assert layer.decision == before.decision
                    assert layer.weight_bits >= before.weight_bits
                    assert layer.activation_bits >= before.activation_bits


def test_4_bits_stay_or_go_back_to_8_and_floats_stay() -> None:
    found = decided(qkv=STATIC, head=FOUR)
    assert forms(found, "weight-only") == ["weight-only 8", "float", "weight-only 4"]
    assert forms(found, "no 4 bits") == ["static", "float", "weight-only 8"]
    assert forms(found, "dynamic, no 4 bits") == ["dynamic", "float", "weight-only 8"]
    tried = [DECIDED, "weight-only", "dynamic", "no 4 bits", "dynamic, no 4 bits"]
    assert candidates(found, ALL) == tried
    assert candidates(decided(qkv=FLOAT, head=FLOAT), ALL) == [DECIDED]
    assert candidates(decided(qkv=EIGHT, head=EIGHT), ALL) == [DECIDED]


def test_forms_that_a_target_makes_alike_are_tried_once() -> None:
    found = candidates(decided(qkv=STATIC, head=STATIC), NO_DYNAMIC)
    assert found == [DECIDED, "weight-only", "decoder weight-only"]
    dynamic = decided(qkv=DYNAMIC, head=DYNAMIC)
    assert candidates(dynamic, NO_DYNAMIC) == [DECIDED]


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ArtifactError, match="'fast'"):
        in_form(decided(qkv=STATIC, head=STATIC), "fast")


def test_a_race_asks_in_turns_and_takes_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    costs = {"a": iter([9.0, 9.0, 3.0, 1.0, 2.0]), "b": iter([9.0, 9.0, 5.0, 90.0, 4.0])}

    def do(bundle: Any, work: Any) -> float:
        asked.append(bundle)
        return next(costs[bundle])

    monkeypatch.setattr(stopwatch, "_do", do)
    found = race({"a": "a", "b": "b"}, [], rounds=3)  # type: ignore[dict-item]
    assert found == {"a": 2000.0, "b": 5000.0}
    assert asked[4:] == ["a", "b", "b", "a", "a", "b"]
    assert race({}, [], rounds=3) == {}
