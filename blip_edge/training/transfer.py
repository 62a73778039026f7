"""What a model for one task gives to a model for another.

As BLIP's loaders do, and said: parts that the new task shares are taken over; the two branches of
NLVR2's cross-attention both start as the one that was pre-trained; what nobody can give starts
fresh (the branches' merging, the verdict's head, and the answering decoder's view of questions
where pictures are wider than texts).
"""

import re
from collections.abc import Iterator

from torch import Tensor

from blip_edge.models.blip import Blip, build
from blip_edge.models.config import BlipConfig
from blip_edge.models.weights import blank, restore

__all__ = ["transfer"]

_TWIN = (
    (re.compile(r"\.crossattention\.self[01]\."), ".crossattention.self."),
    (re.compile(r"\.crossattention\.output\.dense[01]\."), ".crossattention.output.dense."),
)
_NEW = re.compile(r"\.merge_layer\.|^cls_head\.")
_QUESTIONS = re.compile(r"^text_decoder\..*\.crossattention\.self\.(key|value)\.")


def transfer(start: Blip, config: BlipConfig, *, source: str) -> tuple[Blip, list[str], list[str]]:
    """A BLIP of `config` with all that `start` has for it.

    Returns:
        The model; the names of its weights that are fresh; and those that `start` lacks and the
        task cannot do without, of which there must be none.

    Raises:
        ArtifactError: the two contradict each other; `source` is named.
    """
    old = start.state_dict()
    wanted = blank(config).state_dict()
    given: dict[str, Tensor] = {}
    fresh: list[str] = []
    lacking: list[str] = []
    for name, tensor in wanted.items():
        found = next((old[one] for one in _origins(name) if one in old), None)
        if found is not None and _QUESTIONS.match(name) and found.shape != tensor.shape:
            found = None
            fresh.append(name)
        elif found is None:
            (fresh if _NEW.search(name) else lacking).append(name)
        if found is not None:
            given[name] = found.clone()
    if lacking:
        return start, fresh, lacking
    if fresh:
        new = build(config).state_dict()
        given |= {name: new[name] for name in fresh}
    return restore(config, given, source=source), fresh, lacking


def _origins(name: str) -> Iterator[str]:
    """Where the weight of that name may come from, the likeliest first."""
    yield name
    for twin, single in _TWIN:
        if twin.search(name):
            yield twin.sub(single, name)
