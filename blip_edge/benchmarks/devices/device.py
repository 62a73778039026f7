"""What every device does: get ready, take the bundles, time them, hand over what it found, tidy up.

A device is anything that a bundle can be timed on. `measure` is the only one that calls these
five, always in this order; `clean` is called whatever happened before. A device that goes away in
mid-run does not fail: it hands over what it was told, and that is marked as incomplete.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from blip_edge.benchmarks.job import Job, Measured
from blip_edge.benchmarks.rows import BundleFacts
from blip_edge.errors import UsageError
from blip_edge.progress import Progress

__all__ = ["Device", "measure"]


class Device(Protocol):
    """Something that times bundles.

    Its methods raise UsageError (it cannot run such a bundle), ArtifactError (it is not there, its
    disk is full, or what it was given is damaged) and MissingExtraError (a program or package that
    it takes is missing).
    """

    @property
    def name(self) -> str:
        """As it was asked for, such as `ssh:pi@board`."""
        ...

    @property
    def targets(self) -> tuple[str, ...]:
        """Targets of the bundles that it can run."""
        ...

    def prepare(self, job: Job, progress: Progress) -> None:
        """See that it is there and can do the job, and make ready whatever runs there."""
        ...

    def push(self, job: Job, progress: Progress) -> None:
        """Bring bundles and pictures to where it reads them."""
        ...

    def run(self, job: Job, progress: Progress) -> None:
        """Time them; returns when all is measured, or the device has gone away."""
        ...

    def collect(self) -> Measured:
        """What was measured."""
        ...

    def clean(self) -> None:
        """Leave nothing behind; never fails."""
        ...


def measure(device: Device, job: Job, facts: list[BundleFacts], progress: Progress) -> Measured:
    """Time `job` on `device`.

    Raises:
        UsageError: the device cannot run a bundle.
        BlipEdgeError: see `Device`.
    """
    for bundle in facts:
        if not set(bundle.engines) <= set(device.targets):
            runs = ", ".join(device.targets)
            raise UsageError(
                f"{bundle.name} is for {' and '.join(bundle.engines)}, and {device.name} runs "
                f"{runs}; export for one of these"
            )
    with _cleaned(device):
        device.prepare(job, progress)
        device.push(job, progress)
        device.run(job, progress)
        return device.collect()


@contextmanager
def _cleaned(device: Device) -> Iterator[None]:
    try:
        yield
    finally:
        device.clean()
