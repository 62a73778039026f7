"""This machine."""

from typing import get_args

from blip_edge.benchmarks.job import Job, Measured
from blip_edge.benchmarks.protocol import time_bundles
from blip_edge.progress import Progress
from blip_edge.runtime.manifest import Target

__all__ = ["LocalDevice"]


class LocalDevice:
    """A `Device`: bundles are timed where they lie, by `protocol`, in processes of their own."""

    name = "local"
    targets: tuple[str, ...] = get_args(Target)

    def __init__(self) -> None:
        self._measured = Measured(bundles=0)

    def prepare(self, job: Job, progress: Progress) -> None:
        """Nothing: the processes check the bundles when they open them."""
        self._measured = Measured(bundles=len(job.bundles), where=self.name)

    def push(self, job: Job, progress: Progress) -> None:
        """Nothing: they are here."""

    def run(self, job: Job, progress: Progress) -> None:
        """Time them."""
        time_bundles(job, self._measured.hear, progress)

    def collect(self) -> Measured:
        """What was measured."""
        return self._measured

    def clean(self) -> None:
        """Nothing: the processes have ended."""
