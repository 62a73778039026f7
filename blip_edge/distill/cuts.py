"""What a run of `prune` has cut, kept beside its checkpoints until it is done.

A latency is another one each time that it is measured: a run that goes on must not choose again.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blip_edge.artifact import read_json, write_json
from blip_edge.distill.surgery import Keep, LayerKeep
from blip_edge.errors import ArtifactError
from blip_edge.training import processes
from blip_edge.training.recipe import FREE
from blip_edge.training.source import Source
from blip_edge.training.work import Work, identity_of

__all__ = ["Cuts"]


class Cuts:
    """The cuts of one run, first to last; of one that keeps no checkpoints there are none."""

    def __init__(self, work: Work, source: Source) -> None:
        self._work = work
        told = {k: v for k, v in identity_of(work, source).items() if k not in FREE}
        self._identity = json.loads(json.dumps(told, default=str))

    def read(self) -> list[Keep]:
        """What a killed run of the same has cut, if it is to be resumed; every process asks.

        Raises:
            ArtifactError: its file is damaged.
        """
        path, found = _file(self._work), []
        if processes.rank() == 0 and self._work.resume and path.is_file():
            kept = read_json(path)
            try:
                if kept["identity"] == self._identity:
                    found = [_keep(one) for one in kept["cuts"]]
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ArtifactError(f"{path} is damaged ({error!r}); delete its folder") from None
        return processes.first(found)

    def keep(self, cuts: list[Keep]) -> None:
        """Write them before there is a checkpoint; those of a run with checkpoints stay.

        Raises:
            ArtifactError: they cannot be written.
        """
        work, path = self._work, _file(self._work)
        begins = work.force and not work.resume
        if processes.rank() or not work.recipe.save_every:
            return
        if any(path.parent.glob("step-*")) and not begins:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"identity": self._identity, "cuts": [asdict(one) for one in cuts]})
        except OSError as error:
            raise ArtifactError(f"{path} cannot be written: {error.strerror or error}") from None

    @staticmethod
    def clear(work: Work) -> None:
        """Delete those of a run that is done."""
        if processes.rank() == 0:
            path = _file(work)
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()


def _file(work: Work) -> Path:
    return work.checkpoints / "cuts.json"


def _keep(written: dict[str, Any]) -> Keep:
    """As JSON has it, whose keys are words."""
    towers = {
        tower: {int(number): LayerKeep(*layer) for number, layer in written[tower].items()}
        for tower in ("vision", "text")
    }
    return Keep(**(written | towers))
