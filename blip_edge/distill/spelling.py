"""Whether a teacher can spell what it is to teach."""

from blip_edge.errors import ArtifactError
from blip_edge.progress import Progress
from blip_edge.text import Tokenizer, few_of
from blip_edge.training.source import Source
from blip_edge.training.work import Work

__all__ = ["require_spelled"]


def require_spelled(source: Source, tokenizer: Tokenizer, work: Work, progress: Progress) -> None:
    """Say which words are [UNK] to the teacher of `tokenizer`, and so to its student.

    Captions of people hold an emoji or a rare sign here and there: texts with one are bad samples
    like others, of which a run stands a share of `max_bad`.

    Raises:
        ArtifactError: more of the texts hold such words.
    """
    words: dict[str, None] = {}
    texts = bad = 0
    for text in source.read(max_words=work.recipe.max_words):
        texts += 1
        unknown = tokenizer.unknown_words([text])
        words |= dict.fromkeys(unknown)
        bad += bool(unknown)
    if not bad:
        return
    found = (
        f"{work.data}: {bad} of {texts} texts hold words that the teacher cannot spell: "
        f"{few_of(list(words))}"
    )
    if bad > work.recipe.max_bad * texts:
        raise ArtifactError(f"{found}; take a teacher that learned such texts, or raise max_bad")
    progress.say(f"warning: {found}; they are [UNK]")
