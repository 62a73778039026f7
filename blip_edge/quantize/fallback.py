"""How few layers must go back to float."""

from collections.abc import Callable

__all__ = ["fewest"]


def fewest(limit: int, holds: Callable[[int], bool]) -> int | None:
    """The smallest count in [0, limit] that holds, given that larger counts hold too.

    Asking is expensive (each question is a measurement), so counts double until one holds and the
    gap is then halved: about 2 log₂(answer) questions. Where larger counts do not always hold, as
    measurements go, the answer still was asked and did hold. None: no count did.
    """
    failed, count = -1, 0
    while not holds(count):
        if count >= limit:
            return None
        failed, count = count, min(max(2 * count, 1), limit)
    while count - failed > 1:
        middle = (failed + count) // 2
        if holds(middle):
            count = middle
        else:
            failed = middle
    return count
