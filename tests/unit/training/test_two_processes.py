"""Two processes with half the rows each learn what one learns from all of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.multiprocessing.spawn import spawn

from tests.unit.training.processes import (
    Run,
    alone_among,
    hardest,
    hardest_in_half,
    rows,
    trained,
    uneven,
    work,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.distributed.is_available() or not torch.distributed.is_gloo_available(),
        reason="this torch was built without gloo",
    ),
]

# Double precision, and sums in another order.
CLOSE = 1e-9
KINDS = ["pretrain", "retrieval from all", "retrieval"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Run]]:
    """What each of the two processes made."""
    folder: Path = tmp_path_factory.mktemp("processes")
    spawn(work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def one() -> dict[str, Run]:
    """What one process makes of all rows, its negatives from where the two found theirs."""
    torch.set_num_threads(1)
    draws = dict(zip(KINDS, [hardest_in_half, hardest, hardest_in_half], strict=True))
    return {kind: trained(kind, draw) for kind, draw in draws.items()}


def close(got: Any, want: Any) -> None:
    torch.testing.assert_close(got, want, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_of_losses_is_that_of_one_process(
    both: list[dict[str, Run]], one: dict[str, Run], kind: str
) -> None:
    for step, expected in enumerate(one[kind]["losses"]):
        halves = [run[kind]["losses"][step] for run in both]
        assert halves[0] != halves[1]
        assert expected.keys() == halves[0].keys() >= {"itc", "itm"}
        close({name: (halves[0][name] + halves[1][name]) / 2 for name in expected}, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_averaged_gradients_are_those_of_one_process(
    both: list[dict[str, Run]], one: dict[str, Run], kind: str
) -> None:
    expected = one[kind]["gradients"]
    assert expected["vision_model.encoder.layers.0.mlp.fc1.weight"].abs().max() > 1e-3
    for run in both:
        close(run[kind]["gradients"], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_queues_are_equal_everywhere(
    both: list[dict[str, Run]], one: dict[str, Run], kind: str
) -> None:
    expected = one[kind]["queue"]
    assert expected["images.next"] == 16 % 11
    assert ("pictures.items" in expected) == (kind != "pretrain")
    for run in both:
        close(run[kind]["queue"], expected)


def test_negatives_from_everywhere_are_others_than_those_from_the_own_batch(
    both: list[dict[str, Run]],
) -> None:
    losses = [[run[kind]["losses"][0]["itm"] for run in both] for kind in KINDS[1:]]
    assert losses[0] != losses[1]


def test_rows_of_unequal_number_and_length_are_gathered_in_order(
    both: list[dict[str, Run]],
) -> None:
    everyone = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [10.0, 0.0], [20.0, 0.0]])
    for rank, first in enumerate([0, 3]):
        run = both[rank]["gather"]
        assert run["first"] == first
        assert torch.equal(run["everyone"], everyone) and torch.equal(run["plain"], everyone)
        assert not run["plain keeps a graph"]


def test_a_gathered_row_hears_of_every_process(both: list[dict[str, Run]]) -> None:
    """Rank 0 asks once and rank 1 twice; what was filled up with zeros hears of nobody."""
    asked = 3 * torch.arange(10.0).view(5, 2)
    assert torch.equal(both[0]["gather"]["gradient"], asked[:3])
    assert torch.equal(both[1]["gather"]["gradient"], asked[3:, :1])


def test_unequal_batches_keep_equal_queues_and_a_contrast_of_all(
    both: list[dict[str, Run]],
) -> None:
    """Three rows and two: means over rows are those of five when they are weighed by rows."""
    five = uneven(rows(0)[:5])
    three, two = (run["uneven"]["losses"][0] for run in both)
    close((3 * three["itc"] + 2 * two["itc"]) / 5, five["losses"][0]["itc"])
    for run in both:
        close(run["uneven"]["queue"], five["queue"])


def test_a_process_without_a_wrong_partner_does_not_keep_the_other_waiting(
    both: list[dict[str, Run]],
) -> None:
    three = uneven(alone_among(0) + alone_among(1), "retrieval from all")
    mine, theirs = (run["alone"]["losses"][0] for run in both)
    # Rank 0 has its own pair; rank 1 has two, and two wrong ones of each.
    close((mine["itm"] + 6 * theirs["itm"]) / 7, three["losses"][0]["itm"])
