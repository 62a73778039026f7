"""Falling back to float, with a measurement that is made up."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from blip_edge.models.quantized import LayerDecision, Quantization
from blip_edge.progress import SILENT
from blip_edge.quantize.recipe import QuantizeRecipe
from blip_edge.quantize.trial import Outcome, Trial


def decided(db: float | None) -> LayerDecision:
    return LayerDecision(
        decision="int8",
        weight_bits=8,
        activation_bits=8,
        input_scale=0.1,
        input_zero_point=3,
        sqnr_db=db,
    )


LAYERS = {
    "a": decided(30.0),
    "b": decided(12.0),
    "c": LayerDecision(decision="float", why="never run"),
    "d": decided(25.0),
    "e": decided(8.0),
}


class Scores:
    """100 in float; each of `harmful` costs 5 while it is in 8 bits."""

    def __init__(self, *harmful: str, best: float = 100.0) -> None:
        self.harmful, self.best, self.asked = harmful, best, 0

    def __call__(self, folder: Path) -> float:
        self.asked += 1
        if not Quantization.is_in(folder):
            return self.best
        int8 = Quantization.load(folder).int8_layers
        return self.best * (1 - 0.05 * len(set(int8) & set(self.harmful)))


class Heard:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def track(self, items: Iterable[Any], description: str, *, total: int | None = None) -> Any:
        def each() -> Iterator[Any]:
            yield from items

        return each()

    def note(self, text: str) -> None: ...

    def say(self, text: str) -> None:
        self.lines.append(text)


def tried(folder: Path, measure: Callable[[Path], float], **recipe: Any) -> Outcome:
    return Trial(folder, LAYERS, measure, QuantizeRecipe(**recipe), SILENT).run()


def in_float(outcome: Outcome) -> set[str]:
    return {path for path, layer in outcome.layers.items() if layer.decision == "float"}


def test_what_holds_at_once_is_left_alone(tmp_path: Path) -> None:
    measure = Scores()
    outcome = tried(tmp_path, measure)
    assert outcome.layers == LAYERS and not outcome.missed and measure.asked == 2
    assert outcome.metric == {"float": 100, "int8": 100, "loss": 0, "tolerance": 0.01}


def test_the_worst_layers_go_back_first_and_only_as_many_as_it_takes(tmp_path: Path) -> None:
    outcome = tried(tmp_path, Scores("e", "b"))
    assert in_float(outcome) == {"c", "e", "b"} and not outcome.missed
    assert outcome.layers["e"].sqnr_db == 8.0 and "fall-back" in outcome.layers["e"].why
    assert outcome.layers["e"].input_scale is None and outcome.layers["c"].why == "never run"
    assert [row["float_layers"] for row in outcome.history] == [0, 1, 2]
    assert [row["loss"] for row in outcome.history] == pytest.approx([0.1, 0.05, 0])
    assert in_float(tried(tmp_path / "..", Scores("e"))) == {"c", "e"}


def test_the_limit_counts_and_the_least_loss_is_kept(tmp_path: Path) -> None:
    """Half of four layers may go back; "d" is the third worst."""
    outcome = tried(tmp_path, Scores("e", "d"))
    assert outcome.missed and in_float(outcome) == {"c", "e"}
    assert outcome.metric is not None and outcome.metric["loss"] == pytest.approx(0.05)
    assert not tried(tmp_path / "..", Scores("e", "d"), max_float=1.0).missed


@pytest.mark.parametrize("sensitivity", ["none", "sqnr"])
def test_without_fall_back_a_loss_is_a_loss(tmp_path: Path, sensitivity: str) -> None:
    measure = Scores("e")
    outcome = tried(tmp_path, measure, sensitivity=sensitivity)
    assert outcome.missed and in_float(outcome) == {"c"} and measure.asked == 2
    assert "5.00% lost" in outcome.verdict and "4 of 5 layers" in outcome.verdict


def test_the_tolerance_is_a_share_of_the_float_metric(tmp_path: Path) -> None:
    measure = Scores("e", best=40.0)
    assert not tried(tmp_path / "..", measure, sensitivity="none", tolerance=0.051).missed
    assert measure.asked == 2


def test_a_float_metric_of_zero_is_no_loss_but_a_warning(tmp_path: Path) -> None:
    heard = Heard()
    outcome = Trial(tmp_path, LAYERS, Scores("e", best=0.0), QuantizeRecipe(), heard).run()
    assert not outcome.missed and outcome.layers == LAYERS
    assert heard.lines[0].startswith("warning") and len(heard.lines) == 2


def test_no_items_is_no_measurement(tmp_path: Path) -> None:
    measure = Scores("e")
    outcome = tried(tmp_path, measure, sensitivity="sqnr", eval_items=0)
    assert outcome.metric is None and not outcome.missed and measure.asked == 0
    assert outcome.history == []


def test_a_better_metric_in_8_bits_is_no_loss(tmp_path: Path) -> None:
    scores = iter([50.0, 51.0])
    outcome = tried(tmp_path, lambda _: next(scores))
    assert not outcome.missed and outcome.metric is not None and outcome.metric["loss"] < 0
