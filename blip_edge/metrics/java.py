"""METEOR and SPICE, which only the field's own Java programs can compute.

Denkowski, Lavie, "Meteor Universal", WMT 2014 (version 1.5, with its table of paraphrases);
Anderson et al., "SPICE: Semantic Propositional Image Caption Evaluation", ECCV 2016.
`pycocoevalcap` brings the programs and runs them. Captions are split by `metrics.ptb`, as for the
other metrics.

    if (why := meteor_missing()) is None:
        print(100 * meteor(captions, references).mean)

SPICE needs more: a Java that its libraries still run on (8 is what they were made for), 8 GB, and
the models of Stanford CoreNLP 3.6.0, which nothing here fetches unasked.
"""

import shutil
from collections.abc import Hashable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from subprocess import CalledProcessError
from typing import TypeVar

from blip_edge.errors import MissingExtraError, import_extra
from blip_edge.metrics.score import Score, tokenized

__all__ = ["meteor", "meteor_missing", "spice", "spice_missing"]

K = TypeVar("K", bound=Hashable)

_EXTRA = "metrics"
_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def meteor(candidates: Mapping[K, str], references: Mapping[K, Sequence[str]]) -> Score[K]:
    """METEOR 1.5, between 0 and 1; the set's figure is not the mean of the pictures' own.

    Raises:
        MissingExtraError: Java or `pycocoevalcap` is not there, or the program ended early.
        ValueError: nothing to score, ids that differ, or a picture without references.
    """
    said, meant = _plain(candidates, references)
    _demand(meteor_missing())
    scorer = import_extra("pycocoevalcap.meteor.meteor", _EXTRA).Meteor()
    try:
        mean, per_item = scorer.compute_score(meant, said)
    except (OSError, ValueError) as error:
        raise MissingExtraError(f"METEOR's Java program did not answer: {error}") from error
    finally:
        # The scorer ends its process when it is collected, and leaves these two open.
        scorer.meteor_p.stdout.close()
        scorer.meteor_p.stderr.close()
    return Score(float(mean), dict(zip(candidates, map(float, per_item), strict=True)))


def spice(candidates: Mapping[K, str], references: Mapping[K, Sequence[str]]) -> Score[K]:
    """SPICE, between 0 and 1; the set's figure is the mean of the pictures'.

    Raises:
        MissingExtraError: Java, `pycocoevalcap` or the models are not there, or the program fails
            on this Java.
        ValueError: nothing to score, ids that differ, or a picture without references.
    """
    said, meant = _plain(candidates, references)
    _demand(spice_missing())
    scorer = import_extra("pycocoevalcap.spice.spice", _EXTRA).Spice()
    try:
        mean, per_item = scorer.compute_score(meant, said)
    except (OSError, CalledProcessError) as error:
        raise MissingExtraError(
            f"SPICE's Java program failed, which was made for Java 8 and needs 8 GB: {error}"
        ) from error
    figures = [float(scores["All"]["f"]) for scores in per_item]
    return Score(float(mean), dict(zip(candidates, figures, strict=True)))


def meteor_missing() -> str | None:
    """What METEOR lacks here, in one line; None when it can be computed."""
    if find_spec("pycocoevalcap") is None:
        return f"pycocoevalcap is not installed: pip install 'blip-edge[{_EXTRA}]'"
    if shutil.which("java") is None:
        return "there is no java command: install a Java runtime"
    return None


def spice_missing() -> str | None:
    """What SPICE lacks here, in one line; None when it can be tried."""
    without = meteor_missing()
    if without is not None:
        return without
    found = find_spec("pycocoevalcap.spice")
    folder = Path(found.origin).parent / "lib" if found and found.origin else None
    if folder is None or not all((folder / name).is_file() for name in _MODELS):
        return (
            "the models of Stanford CoreNLP 3.6.0 are not there: "
            "python -m pycocoevalcap.spice.get_stanford_models fetches them"
        )
    return None


def _demand(missing: str | None) -> None:
    if missing is not None:
        raise MissingExtraError(missing)


def _plain(
    candidates: Mapping[K, str], references: Mapping[K, Sequence[str]]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Words with blanks between them, by numbers from 0: SPICE sorts the ids."""
    said: dict[int, list[str]] = {}
    meant: dict[int, list[str]] = {}
    for number, (_, words, texts) in enumerate(tokenized(candidates, references)):
        said[number] = [" ".join(words)]
        meant[number] = [" ".join(text) for text in texts]
    return said, meant
