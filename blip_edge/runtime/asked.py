"""One thing that a model is asked, whatever it was trained for."""

from dataclasses import dataclass
from typing import Any

from blip_edge.runtime.engine import Task
from blip_edge.runtime.loaded import Picture

__all__ = ["Asked", "ask"]


@dataclass(frozen=True)
class Asked:
    """One thing to do: to caption a picture, to answer a question, to compare, to judge."""

    images: tuple[Picture, ...]
    """One picture; two where a sentence is about two."""
    texts: tuple[str, ...] = ()
    """None to caption, several to compare, else one."""


def ask(model: Any, task: Task, asked: Asked) -> Any:
    """What a loaded model says of it: a `Caption`, an `Answer`, `Match`es or a `Reason`.

    Raises:
        ArtifactError: a picture cannot be read, or the model was not trained for `task`.
    """
    match task:
        case "caption":
            return model.caption(asked.images[0])
        case "vqa":
            return model.answer(asked.images[0], asked.texts[0])
        case "retrieval":
            return model.match(asked.images[0], asked.texts)
        case "nlvr2":
            return model.reason(*asked.images, asked.texts[0])
