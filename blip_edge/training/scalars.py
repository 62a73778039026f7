"""Scalars of a run for TensorBoard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blip_edge.errors import ArtifactError, import_extra
from blip_edge.training.curve import Point

__all__ = ["written"]


@contextmanager
def written(folder: Path | None) -> Iterator[Callable[[Point], None] | None]:
    """Give what writes points to an event file in `folder`, or None where there is no folder.

    Every value of a point but its step is a scalar of that name. A run that goes on writes a file
    of its own, which takes the place of the first one's from the step on where it goes on.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        ArtifactError: `folder` cannot be written.
    """
    if folder is None:
        yield None
        return
    import_extra("tensorboard", "logs")
    from torch.utils.tensorboard import SummaryWriter

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{folder} cannot be written: {error.strerror or error}") from None
    writers: list[SummaryWriter] = []

    def write(point: Point) -> None:
        step = int(point["step"])
        if not writers:
            writers.append(SummaryWriter(folder, purge_step=step))
        for name, value in point.items():
            if name != "step":
                writers[0].add_scalar(name, value, step)

    try:
        yield write
    finally:
        for writer in writers:
            writer.close()
