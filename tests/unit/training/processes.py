"""Two processes of one run, each with its half of the rows, and what they made of them."""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from blip_edge.training.batches import Batch
from blip_edge.training.gather import first_row, gather, gather_with_gradient
from blip_edge.training.losses import Draw
from blip_edge.training.objectives import PretrainObjective, RetrievalObjective
from blip_edge.training.recipe import TrainRecipe
from tests import tiny

TEXTS = ["a red cat", "a blue dog on a mat", "the cat is red", "a dog", "two dogs", "a red mat"]
RECIPE = TrainRecipe(queue_size=11, momentum=0.5, alpha=0.4, alpha_warmup=2, label_smoothing=0.1)

Run = dict[str, Any]
Task = PretrainObjective | RetrievalObjective


def hardest(weights: Tensor) -> Tensor:
    """The wrong partner that looks most right: nothing is left to chance."""
    return weights.argmax(-1)


def hardest_in_half(weights: Tensor) -> Tensor:
    """The hardest of the same half of the rows, as a process finds that sees no other."""
    half = torch.arange(len(weights)) * 2 // len(weights)
    return weights.masked_fill(half[:, None] != half[None, :], -1.0).argmax(-1)


def objective(kind: str, draw: Draw) -> Task:
    """A tiny one in double precision, the same in every process."""
    if kind == "pretrain":
        model = tiny.model(TEXTS, "BlipForPreTraining")
        made: Task = PretrainObjective(model.blip, model.tokenizer, RECIPE, draw=draw)
    else:
        model = tiny.model(TEXTS, "BlipForImageTextRetrieval")
        everywhere = kind == "retrieval from all"
        made = RetrievalObjective(
            model.blip, model.tokenizer, RECIPE, negative_all_rank=everywhere, draw=draw
        )
    return made.double()


def rows(seed: int) -> list[tuple[int, list[int]]]:
    """Eight rows (picture, ids): halves of as many words, but not of equal length.

    Rows 1 and 5 are of one picture, and rows 2 and 7 have one caption.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = [9, 4, 5, 3, 6, 5, 5, 5]
    ids = [torch.randint(5, 20, (n,), generator=generator).tolist() for n in lengths]
    ids[7] = ids[2]
    return list(zip([0, 1, 2, 3, 4, 1, 5, 6], ids, strict=True))


def batch(chosen: list[tuple[int, list[int]]], seed: int) -> Batch:
    """Padded to the longest of what was chosen; a picture's number decides its pixels."""
    longest = max(len(ids) for _, ids in chosen)
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for _, ids in chosen])
    pixels = torch.randn(20, 3, 24, 24, generator=torch.Generator().manual_seed(seed)).double()
    picture = torch.tensor([number for number, _ in chosen])
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for _, ids in chosen])
    return Batch(pixels[picture], ids, mask, picture)


def trained(kind: str, draw: Draw, part: slice = slice(None)) -> Run:
    """Two steps of plain gradient descent on `part` of the rows, and all that came of them."""
    task = objective(kind, draw)
    model: Any = task.blip
    step_of: nn.Module = task
    if dist.is_initialized():
        step_of = DistributedDataParallel(task, broadcast_buffers=False)
    losses, gradients = [], {}
    for step in range(2):
        named = step_of(batch(rows(step)[part], step), step)
        model.zero_grad()
        torch.stack(list(named.values())).sum().backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        losses.append({name: loss.item() for name, loss in named.items()})
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(parameter.grad, alpha=0.01)
    queue = {n: t for n, t in task.contrast.state_dict().items() if not n.startswith("slow")}
    return {"losses": losses, "gradients": gradients, "queue": queue}


def uneven(chosen: list[tuple[int, list[int]]], kind: str = "pretrain") -> Run:
    """One step on rows of which the processes have unequally many."""
    task = objective(kind, hardest)
    named = task(batch(chosen, 0), 2)
    torch.stack(list(named.values())).sum().backward()
    losses = [{name: loss.item() for name, loss in named.items()}]
    return {"losses": losses, "queue": task.contrast.images.state_dict()}


def alone_among(rank: int) -> list[tuple[int, list[int]]]:
    """Rank 0 has no wrong partner anywhere, and rank 1's two rows are each other's."""
    first, second = [5, 6, 7], [8, 9, 7, 5]
    return [[(0, first)], [(1, first), (0, second)]][rank]


def gathered(rank: int) -> Run:
    """Rows of unequal number and length, there and back."""
    x = torch.arange(1.0, 1 + [6, 2][rank]).reshape([(3, 2), (2, 1)][rank]) * (10 if rank else 1)
    x.requires_grad_()
    everyone = gather_with_gradient(x)
    # Each process asks for something else of the same rows.
    (everyone * torch.arange(10.0).view(5, 2) * (rank + 1)).sum().backward()
    plain = gather(x)
    return {
        "x": x.detach(),
        "first": first_row(x),
        "everyone": everyone.detach(),
        "plain": plain,
        "plain keeps a graph": plain.requires_grad,
        "gradient": x.grad,
    }


def work(rank: int, folder: Path) -> None:
    """What each process does; it leaves `rank`.pt in `folder`."""
    torch.set_num_threads(1)
    # No name of this machine needs to be known.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=5),
    )
    half = slice(4 * rank, 4 * rank + 4)
    everything: dict[str, Callable[[], Run]] = {
        "gather": lambda: gathered(rank),
        "pretrain": lambda: trained("pretrain", hardest, half),
        "retrieval from all": lambda: trained("retrieval from all", hardest, half),
        "retrieval": lambda: trained("retrieval", hardest, half),
        "uneven": lambda: uneven(rows(0)[:3] if rank == 0 else rows(0)[3:5]),
        "alone": lambda: uneven(alone_among(rank), "retrieval from all"),
    }
    torch.save({name: run() for name, run in everything.items()}, folder / f"{rank}.pt")
    dist.destroy_process_group()
