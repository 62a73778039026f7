"""A dialog up to an answer, as one text: what VisDial is learned from and judged by."""

from collections.abc import Sequence

from blip_edge.data.rows import Dialog
from blip_edge.text import Tokenizer, clean_caption, clean_question

__all__ = ["dialog_texts"]

_BETWEEN = " [SEP] "


def dialog_texts(
    dialog: Dialog, number: int, answers: Sequence[str], tokenizer: Tokenizer, max_length: int
) -> list[str]:
    """Each of `answers` to question `number` of a dialog, after all that was said before.

    [SEP] stands between what one says and what the other does. As many of the oldest rounds are
    left out as it takes for the longest answer to end within `max_length` tokens.
    """
    question = clean_question(dialog.rounds[number].question)
    cleaned = [clean_caption(answer) for answer in answers]
    # Of the specials three are here, [CLS] and two [SEP], and two more in every round before.
    room = max_length - 3 - _tokens(question, tokenizer)
    room -= max(_tokens(answer, tokenizer) for answer in cleaned)
    history: list[str] = []
    for turn in reversed(dialog.rounds[:number]):
        said = [clean_question(turn.question), clean_caption(turn.options[turn.gt])]
        room -= 2 + sum(_tokens(text, tokenizer) for text in said)
        if room < 0:
            break
        history = [*said, *history]
    return [_BETWEEN.join([*history, question, answer]) for answer in cleaned]


def _tokens(text: str, tokenizer: Tokenizer) -> int:
    """How many a text is, without [CLS] and [SEP]."""
    ids, _ = tokenizer.encode([text], max_length=1 << 20)
    return int(ids.shape[1]) - 2
