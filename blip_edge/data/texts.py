"""All that people wrote to be learned from in a data set, for a vocabulary."""

from collections.abc import Iterator

from blip_edge.data.dataset import Dataset
from blip_edge.text import clean_caption, clean_question

__all__ = ["training_texts"]


def training_texts(dataset: Dataset) -> Iterator[str]:
    """Captions, questions, answers, sentences and dialogs of the training split, cleaned.

    Of annotations that the data set does not have there is nothing; captions must be there, those
    of people or of the web.

    Raises:
        ArtifactError: there are no captions, or a file is damaged.
    """
    web = dataset.web() if dataset.has("web_train.json") else []
    people = dataset.captions("train") if dataset.has("caption_train.json") or not web else []
    for row in people + web:
        yield clean_caption(row.captions[0])
    if dataset.has("vqa_train.json"):
        for asked in dataset.questions("train"):
            yield clean_question(asked.question)
            yield from dict.fromkeys(clean_caption(answer) for answer in asked.answers)
    if dataset.has("nlvr_train.json"):
        for judged in dataset.sentences("train"):
            yield clean_caption(judged.sentence, 40)
    if dataset.has("visdial_train.json"):
        for dialog in dataset.dialogs("train"):
            yield clean_caption(dialog.caption)
            for turn in dialog.rounds:
                yield clean_question(turn.question)
                yield clean_caption(turn.options[turn.gt])
