"""What a model is asked so that it shows what it computes: one probe a task.

torch and every bundle run through the same lines, which are numpy over the runtime, so that a
device can repeat what the export measured.
"""

# R rows · T text tokens · V vocabulary

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from blip_edge.exporters.parity import Forcing, forced_logits
from blip_edge.runtime.asked import Asked
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32, Task
from blip_edge.runtime.results import Reason
from blip_edge.text import clean_question

__all__ = ["PROBES", "Probe", "Said", "dictated"]

Said = list[int] | str
"""What can be equal or not: a caption's token ids, an answer, a label."""


class Probe(NamedTuple):
    """How to try one task."""

    says: Callable[[EdgeModel, Asked, int | None], Said]
    """In words, with so many beams where words are searched for."""
    arrays: Callable[[EdgeModel, Asked, Said], dict[str, F32]]
    """In numbers: logits of what was said, dictated, or vectors."""
    beams: tuple[int | None, ...] = (None,)
    """Searches that are compared at an export."""


def dictated(model: EdgeModel, asked: Asked, forcing: Forcing) -> F32:
    """(T - prompt + 1, R, V) logits of words that are dictated about a picture or a question."""
    engine: Any = model.engine
    cross = engine.encode(model.preprocess(list(asked.images)))
    if "vqa" in engine.tasks:
        questions = [clean_question(text) for text in asked.texts]
        length = engine.max_tokens
        cross = engine.ask(
            cross, *model.tokenizer.encode(questions, max_length=length, first="enc")
        )
    return forced_logits(engine, cross, forcing)


def _one_row(model: EdgeModel, asked: Asked, ids: list[int], prompt: int) -> dict[str, F32]:
    """{"logits": (T - prompt + 1, V)}: after the prompt and after each further token of `ids`."""
    still = np.zeros((len(ids), 1), dtype=np.int32)
    forcing = Forcing(np.asarray([ids], dtype=np.int32), still, prompt)
    return {"logits": dictated(model, asked, forcing)[:, 0]}


def _caption(model: EdgeModel, asked: Asked, beams: int | None) -> Said:
    return list(model.caption(asked.images[0], beams=beams).token_ids)


def _caption_logits(model: EdgeModel, asked: Asked, said: Said) -> dict[str, F32]:
    prompt = len(model.tokenizer.prompt_ids(model.generation.prompt))
    return _one_row(model, asked, [int(token) for token in said], prompt)


def _answer(model: EdgeModel, asked: Asked, beams: int | None) -> Said:
    return model.answer(asked.images[0], asked.texts[0], beams=beams).text


def _answer_logits(model: EdgeModel, asked: Asked, said: Said) -> dict[str, F32]:
    return _one_row(model, asked, model.tokenizer.answer_ids(str(said)), 1)


def _nothing(model: EdgeModel, asked: Asked, beams: int | None) -> Said:
    return ""


def _comparison(model: EdgeModel, asked: Asked, said: Said) -> dict[str, F32]:
    image, texts = asked.images[0], list(asked.texts)
    return {
        "image_embeds": model.embed_image(image),
        "text_embeds": model.embed_text(texts),
        "itm_logits": model.itm_logits(image, texts),
    }


def _reason(model: EdgeModel, asked: Asked) -> Reason:
    left, right = asked.images
    return model.reason(left, right, asked.texts[0])


def _label(model: EdgeModel, asked: Asked, beams: int | None) -> Said:
    return _reason(model, asked).label


def _judgement(model: EdgeModel, asked: Asked, said: Said) -> dict[str, F32]:
    found = _reason(model, asked)
    true = found.score if found.label == "True" else 1 - found.score
    return {"probability": np.asarray([true], dtype=np.float32)}


PROBES: dict[Task, Probe] = {
    "caption": Probe(_caption, _caption_logits, (1, 3)),
    "retrieval": Probe(_nothing, _comparison),
    "vqa": Probe(_answer, _answer_logits, (1, 3)),
    "nlvr2": Probe(_label, _judgement),
}
"""The probe of each task."""
