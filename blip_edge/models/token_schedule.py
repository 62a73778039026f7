"""How many image tokens are left after each layer of a tower that merges them.

A schedule is part of a tower's sizes, so that every shape is known before anything runs.
"""

import math
from collections.abc import Sequence

from blip_edge.errors import UsageError

__all__ = ["check_schedule", "fewest_tokens", "resized_schedule", "tokens_schedule"]


def fewest_tokens(tokens: int) -> int:
    """What one layer can leave of `tokens`, the class token among them.

    Every second token can be merged into one of the others, and the class token cannot: see
    `token_merging`.
    """
    return tokens - (tokens - 1) // 2


def tokens_schedule(num_tokens: int, layers: int, share: float) -> tuple[int, ...]:
    """Tokens after each of `layers` layers, of which the last leaves about `share`.

    The same number goes in every layer, as in the paper (arXiv 2210.09461, section 3, "constant
    schedule"); more in the first where a layer would have to merge more than half of its tokens.
    At least two stay, the class token and one of the patches. A share of 1 keeps all.

    Args:
        num_tokens: patches and class token, at least 2.
        layers: of the tower.
        share: of `num_tokens`, in (0, 1].

    Raises:
        UsageError: `share` is out of (0, 1].
    """
    if not 0.0 < share <= 1.0:
        raise UsageError(f"the share of image tokens to keep must be in (0, 1], got {share}")
    merged = num_tokens - max(2, round(share * num_tokens))
    return _reachable(
        num_tokens, [num_tokens - round(merged * n / layers) for n in range(1, layers + 1)]
    )


def resized_schedule(kept: Sequence[int], old: int, new: int) -> tuple[int, ...]:
    """The schedule `kept` of `old` tokens for a tower that gets `new`: about the same shares."""
    return _reachable(new, [max(2, round(tokens * new / old)) for tokens in kept])


def _reachable(num_tokens: int, wanted: Sequence[int]) -> tuple[int, ...]:
    """`wanted`, with so much taken earlier, and in the end given up, as a layer can merge."""
    schedule: list[int] = []
    most: float = math.inf  # from which the layers that follow come down to what is wanted
    for tokens in reversed(wanted):
        schedule.insert(0, int(min(tokens, most)))
        most = 2 * schedule[0] - 1
    before = num_tokens
    for layer, tokens in enumerate(schedule):
        before = schedule[layer] = min(before, max(tokens, fewest_tokens(before)))
    return tuple(schedule)


def check_schedule(kept: Sequence[int], num_tokens: int, layers: int) -> None:
    """Say what is wrong with a schedule.

    Raises:
        UsageError: it has not one number for each layer, or a layer would have to make tokens, or
            merge more than it can.
    """
    if len(kept) != layers:
        raise UsageError(f"tokens_kept lists {len(kept)} layers, the tower has {layers}")
    before = num_tokens
    for layer, tokens in enumerate(kept):
        fewest = fewest_tokens(before)
        if not fewest <= tokens <= before:
            raise UsageError(
                f"tokens_kept: layer {layer} gets {before} tokens and can leave {fewest} to "
                f"{before} of them, not {tokens}"
            )
        before = tokens
