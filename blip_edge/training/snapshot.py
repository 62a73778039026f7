"""What of a run goes into a snapshot, and how a run takes it up again.

Every process must take part; what differs between them are random numbers and damaged pictures.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from blip_edge.errors import ArtifactError
from blip_edge.training import processes
from blip_edge.training.best import Best, named_tensors
from blip_edge.training.checkpoints import Snapshot
from blip_edge.training.curve import Curve
from blip_edge.training.ema import Average
from blip_edge.training.randomness import random_state, set_random_state
from blip_edge.training.sharding import full, like

__all__ = ["Place", "Run"]


@dataclass(frozen=True)
class Place:
    """How far a run has come."""

    steps: int = 0
    position: int = 0
    """Of the batch that comes next."""


@dataclass(frozen=True)
class Run:
    """All that changes while a run goes on."""

    model: nn.Module
    whole: nn.Module
    """What is evaluated and remains: the model, or if that is sharded an ordinary one."""
    objective: object
    """What it remembers counts only if it is a module."""
    optimiser: torch.optim.Optimizer
    average: Average | None
    best: Best
    curve: Curve
    skipped: dict[str, str]
    """Pictures that this process could not read."""

    def taken(self, place: Place) -> Snapshot:
        """A snapshot at `place`; its tensors are the run's own, not copies, or gathered."""
        best = self.best.found
        tensors = {name: full(tensor) for name, tensor in self._tensors().items()}
        if best is not None:
            tensors |= {f"best.{name}": tensor for name, tensor in best.tensors.items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": full(value) for name, value in state.items()}
        values = {
            "steps": place.steps,
            "position": place.position,
            "curve": self.curve.points,
            "best": None if best is None else {"value": best.value, "step": best.step},
            "processes": processes.everyone(
                {"random": random_state(), "skipped": dict(self.skipped)}
            ),
        }
        return Snapshot(tensors, values)

    def taken_up(self, snapshot: Snapshot) -> Place:
        """Become what the snapshot is of, and say how far that was.

        Raises:
            ArtifactError: it is of a model of other parts.
        """
        saved, values = snapshot.tensors, snapshot.values
        self._fill(saved)
        self._load_optimiser(saved)
        if values["best"] is not None:
            self.best.keep(**values["best"], tensors=_under("best.", saved))
        self.curve.points[:] = values["curve"]
        mine = values["processes"][processes.rank()]
        self.skipped.update(mine["skipped"])
        set_random_state(mine["random"])
        return Place(values["steps"], values["position"])

    def _tensors(self) -> dict[str, Tensor]:
        """What the model and the objective hold, a shared one once."""
        parts = nn.ModuleDict({"model": self.model})
        if isinstance(self.objective, nn.Module):
            parts["objective"] = self.objective
        tensors = named_tensors(parts)
        for number, tensor in enumerate(self.average.tensors if self.average else []):
            tensors[f"average.{number}"] = tensor
        return tensors

    @torch.no_grad()
    def _fill(self, saved: dict[str, Tensor]) -> None:
        tensors = self._tensors()
        others = {
            name: tensor
            for name, tensor in saved.items()
            if not name.startswith(("best.", "optimiser."))
        }
        for name in tensors.keys() | others.keys():
            if (
                name not in others
                or name not in tensors
                or (tensors[name].shape != others[name].shape)
            ):
                raise ArtifactError(f"the checkpoint is of another model: {name} does not fit")
        for name, tensor in tensors.items():
            tensor.copy_(like(others[name], tensor))

    def _load_optimiser(self, saved: dict[str, Tensor]) -> None:
        trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        state: dict[int, dict[str, Any]] = {}
        for name, tensor in _under("optimiser.", saved).items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = like(tensor, trained[int(number)])
        fresh = self.optimiser.state_dict()
        self.optimiser.load_state_dict({"state": state, "param_groups": fresh["param_groups"]})


def _under(prefix: str, saved: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in saved.items()
        if name.startswith(prefix)
    }
