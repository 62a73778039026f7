"""Whether a teacher can spell what it is to teach."""

from collections import Counter

from blip_edge.errors import ArtifactError
from blip_edge.progress import Progress
from blip_edge.text import Tokenizer, few_of
from blip_edge.training.source import Source
from blip_edge.training.work import Work

__all__ = ["require_spelled"]

_MOST = 0.1
"""Share of the texts that may hold words which the teacher cannot spell."""


def require_spelled(source: Source, tokenizer: Tokenizer, work: Work, progress: Progress) -> None:
    """Say which words are [UNK] to the teacher of `tokenizer`, and so to its student.

    Captions of people hold an emoji or a rare sign here and there, which does no harm; a teacher
    that lacks words in every tenth text was not made for these.

    Raises:
        ArtifactError: it was not.
    """
    texts = Counter(source.read(max_words=work.recipe.max_words))
    lacking = {text: words for text in texts if (words := tokenizer.unknown_words([text]))}
    if not lacking:
        return
    bad, total = sum(texts[text] for text in lacking), texts.total()
    words = list(dict.fromkeys(word for words in lacking.values() for word in words))
    found = (
        f"{work.data}: {bad} of {total} texts hold words that the teacher cannot spell: "
        f"{few_of(words)}"
    )
    if bad > _MOST * total:
        raise ArtifactError(f"{found}; take a teacher that learned such texts")
    progress.say(f"warning: {found}; they are [UNK]")
