"""All that people wrote to be learned from in a data set, for a vocabulary."""

from collections.abc import Iterator, Sequence
from itertools import chain

from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import CaptionRow
from blip_edge.errors import ArtifactError
from blip_edge.text import clean_caption, clean_question, exchange_sides

__all__ = ["texts_of", "training_texts"]

_LONG = 40
"""Words that are kept of a sentence about two pictures, and of a dialog's caption."""


def training_texts(dataset: Dataset) -> Iterator[str]:
    """Captions, questions, answers, sentences and dialogs of the training split, cleaned.

    Captions are those of people and of the web; where there are neither, whatever `texts_of` reads.

    Raises:
        ArtifactError: there are no texts, or a file is damaged.
    """
    captioned = dataset.has("caption_train.json")
    web = dataset.web() if dataset.has("web_train.json") else []
    if captioned or web:
        people = dataset.captions("train") if captioned else []
        return _written(dataset, people + web, 30)
    return texts_of(dataset)


def texts_of(dataset: Dataset, *, max_words: int = 30) -> Iterator[str]:
    """Whatever a model may read or must say when it is trained on `dataset`, of any task.

    These are the texts as training hands them to its tokenizer: beside `training_texts` the rows
    of retrieval, Visual Genome's questions, answers as they are spelled, `answer_list.json`,
    sentences for exchanged pictures and answers that are wrong. No annotation must be there.
    Only what is trained on counts, no val or test split: words that are there alone are not
    learned, and those that cannot be spelled are [UNK] in testing.

    Args:
        dataset: its pictures are not looked at.
        max_words: words of a caption that are kept, as in the recipe of the training.

    Raises:
        ArtifactError: there are no texts, or a file is damaged.
    """
    pairs = {
        "caption_train.json": dataset.captions,
        "web_train.json": dataset.web,
        "retrieval_train.json": dataset.retrieval,
    }
    rows = [row for file, read in pairs.items() if dataset.has(file) for row in read("train")]
    texts = chain(_written(dataset, rows, max_words), _also_read(dataset))
    first = next(texts, None)
    if first is None:
        raise ArtifactError(f"{dataset.folder} has no texts to train on, and so no vocabulary")
    return chain([first], texts)


def _written(dataset: Dataset, rows: Sequence[CaptionRow], max_words: int) -> Iterator[str]:
    for row in rows:
        yield from (clean_caption(caption, max_words) for caption in row.captions)
    if dataset.has("vqa_train.json"):
        for asked in dataset.questions("train"):
            yield clean_question(asked.question)
            yield from dict.fromkeys(clean_caption(answer) for answer in asked.answers)
    if dataset.has("nlvr_train.json"):
        for judged in dataset.sentences("train"):
            yield clean_caption(judged.sentence, _LONG)
    if dataset.has("visdial_train.json"):
        for dialog in dataset.dialogs("train"):
            yield clean_caption(dialog.caption)
            for turn in dialog.rounds:
                yield clean_question(turn.question)
                yield clean_caption(turn.options[turn.gt])


def _also_read(dataset: Dataset) -> Iterator[str]:
    """What stands in no vocabulary's own texts, and reaches the tokenizer all the same."""
    for split in ("train", "vg"):
        if dataset.has(f"vqa_{split}.json"):
            for asked in dataset.questions(split):
                yield clean_question(asked.question)
                yield from asked.answers
    if dataset.has("answer_list.json"):
        yield from dataset.answers()
    if dataset.has("nlvr_train.json"):
        for judged in dataset.sentences("train"):
            yield exchange_sides(clean_caption(judged.sentence, _LONG))
    if dataset.has("visdial_train.json"):
        dialogs = dataset.dialogs("train")
        yield from (clean_caption(dialog.caption, _LONG) for dialog in dialogs)
        # Not a set: the order of the texts decides ids.
        options = dict.fromkeys(
            option for dialog in dialogs for turn in dialog.rounds for option in turn.options
        )
        yield from map(clean_caption, options)
