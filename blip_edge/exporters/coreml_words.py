"""What a Core ML file says about itself, for whoever opens it in Xcode without its bundle."""

import json
import re
from collections.abc import Mapping
from typing import Any

from blip_edge import __version__
from blip_edge.models.folder import Model

__all__ = ["ABOUT", "describe", "facts_of", "sign"]

ABOUT = {
    "vision": "BLIP's image tower: a picture to the keys and values that texts read.",
    "text": "BLIP's text tower: texts to unit vectors.",
    "itm": "BLIP's matching head: texts, read with a picture in view, to match or no match.",
    "reason": "BLIP's judge: whether a sentence is true of two pictures.",
    "question": "BLIP's question encoder: a question to what its answer is decoded from.",
    "decoder": "BLIP's decoder: one token more, for every beam.",
}
"""Of each graph, in a sentence."""

_PORTS = {
    "pixel_values": "Pictures: RGB, squashed to a square, divided by 255 and normalised.",
    "image": "The picture, squashed to a square.",
    "left_image": "The left picture, squashed to a square.",
    "right_image": "The right picture, squashed to a square.",
    "input_ids": "Token ids, a text a row; a decoder's are the next token of each row.",
    "attention_mask": "1 for a token, 0 for padding.",
    "position": "The place of the next token, counted from 0.",
    "beam_idx": "For each row, the row of the step before that it continues.",
    "logits": "The next token's logits, for each row.",
    "image_embeds": "The picture's unit vector, to compare with text_embeds.",
    "text_embeds": "The texts' unit vectors, to compare with image_embeds.",
    "itm_logits": "Two logits a text: no match, match.",
    "reason_logits": "Two logits: false, true.",
    "question_mask": "Which tokens of the question count; the decoder's cross_mask.",
    "cross_mask": "Which tokens of the question count; question_mask.",
}
_SIDES = {
    "past": "cache, as the step before gave it: ",
    "present": "cache for the next step: ",
    "cross": "what texts read: ",
    "left": "what texts read of the left picture: ",
    "right": "what texts read of the right picture: ",
    "question": "what the answer is decoded from, the decoder's cross: ",
}


def describe(port: str) -> str:
    """What an input or output of that name holds."""
    if found := re.fullmatch(r"([a-z]+)_(key|value)_(\d+)", port):
        side, what, layer = found.groups()
        return f"{_SIDES[side]}{what}s of layer {layer}.".capitalize()
    return _PORTS[port]


def facts_of(model: Model, tasks: tuple[str, ...]) -> dict[str, str]:
    """What an app needs beside the graphs, as Core ML's user-defined metadata."""
    generation, tokenizer = model.generation, model.tokenizer
    prompt = [generation.bos_token_id, *tokenizer.prompt_ids(generation.prompt)[1:]]
    return {
        "blip_edge.tasks": ", ".join(tasks),
        "blip_edge.architecture": model.config.architecture,
        "blip_edge.preprocess": json.dumps(model.preprocess.to_json()),
        "blip_edge.prompt_ids": json.dumps(prompt),
        "blip_edge.end_id": str(generation.eos_token_id),
    }


def sign(program: Any, about: str, facts: Mapping[str, str]) -> None:
    """Write into coremltools' `program` who made it, what it is and what `facts_of` found."""
    program.author = "blip-edge"
    program.license = "As the model's weights; see the README beside this file."
    program.short_description = about
    program.version = __version__
    program.user_defined_metadata.update(facts)
