"""Score a results file that any model wrote, in the field's own format.

A JSON list, with everything of the split once; with a limit, everything of its first rows. Only
annotations are read: the pictures need not be there. What `eval -o` wrote when it had to skip a
picture is not such a list: a figure of what was answered alone is none of the split.

    caption   {"image_id", "caption"}               COCO's and nocaps' servers
    vqa       {"question_id", "answer"}             VQA's server
    nlvr2     {"identifier", "label"}               or, as .csv, lines `identifier,label`
    visdial   {"image_id", "round_id", "ranks"}     VisDial's server: rounds and ranks from 1
    video-qa  {"question_id", "answer"}
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from blip_edge.data import Dataset
from blip_edge.data.rows import Fields
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation.agreement import judge_captions
from blip_edge.evaluation.nlvr2 import judge_sentences, read_sentences
from blip_edge.evaluation.references import CaptionSet
from blip_edge.evaluation.result import EvalSettings, Evaluation
from blip_edge.evaluation.results_file import read_results
from blip_edge.evaluation.video_qa import judge_clip_answers, read_clip_questions
from blip_edge.evaluation.visdial import RoundId, judge_dialogs, read_dialogs
from blip_edge.evaluation.vqa import judge_answers, read_questions

__all__ = ["score_predictions"]

K = TypeVar("K")
V = TypeVar("V")


def score_predictions(
    predictions: Path,
    data: Path,
    *,
    task: str = "caption",
    split: str = "test",
    how: EvalSettings | None = None,
) -> Evaluation:
    """The metrics of a results file; ids may be written as numbers or as text.

    Args:
        predictions: the file.
        data: a data set with the task's annotations for `split`.
        task: caption, vqa, nlvr2, visdial or video-qa.
        split: train, val or test; NLVR2's are train, dev and test.
        how: `limit` and `ci` count here.

    Raises:
        UsageError: a task that has no results format here.
        ArtifactError: the file is not such a list, lacks an id, or has one that the split has not.
    """
    if task not in _SCORED:
        raise UsageError(
            f"no results file of the task {task!r} can be scored; what can: {', '.join(_SCORED)}"
        )
    dataset = Dataset.open(data)
    return _SCORED[task](Path(predictions), dataset, split, how or EvalSettings())


def _captions(path: Path, dataset: Dataset, split: str, how: EvalSettings) -> Evaluation:
    captions = CaptionSet.read(dataset.folder, split)
    ids = {str(sample.image_id): sample.image_id for sample in captions.samples}
    said = _texts(path, "image_id", "caption", list(ids), captions.where, how)
    return judge_captions(captions, {ids[key]: text for key, text in said.items()}, ci=how.ci)


def _answers(path: Path, dataset: Dataset, split: str, how: EvalSettings) -> Evaluation:
    rows = read_questions(dataset, split)
    ids = [row.question_id for row in rows]
    said = _texts(path, "question_id", "answer", ids, dataset.folder / f"vqa_{split}.json", how)
    return judge_answers(dataset, split, rows, said, ci=how.ci)


def _clip_answers(path: Path, dataset: Dataset, split: str, how: EvalSettings) -> Evaluation:
    rows = read_clip_questions(dataset, split)
    ids = [row.question_id for row in rows]
    asked = dataset.folder / f"video_qa_{split}.jsonl"
    said = _texts(path, "question_id", "answer", ids, asked, how)
    return judge_clip_answers(split, rows, said, ci=how.ci)


def _sentences(path: Path, dataset: Dataset, split: str, how: EvalSettings) -> Evaluation:
    rows = read_sentences(dataset, split)
    ids = [row.identifier for row in rows]
    said = _texts(path, "identifier", "label", ids, dataset.folder / f"nlvr_{split}.json", how)
    for identifier, label in said.items():
        if label.lower() not in ("true", "false"):
            raise ArtifactError(
                f'{path}: identifier {identifier} has the label {label!r}, not "True" or "False"'
            )
    return judge_sentences(
        split, rows, {key: label.lower() == "true" for key, label in said.items()}, ci=how.ci
    )


def _dialogs(path: Path, dataset: Dataset, split: str, how: EvalSettings) -> Evaluation:
    dialogs = read_dialogs(dataset, split)
    options = {
        (one.image_id, number): len(turn.options)
        for one in dialogs
        for number, turn in enumerate(one.rounds, 1)
    }

    def read(fields: Fields) -> tuple[RoundId, tuple[int, ...]]:
        key = (fields.integer("image_id"), fields.integer("round_id"))
        ranks = fields.many("ranks", int)
        number = options.get(key, len(ranks))
        if len(ranks) != number or not all(1 <= rank <= number for rank in ranks):
            raise fields.wrong("ranks", f"are not {number} ranks from 1 to {number}")
        return key, ranks

    found = _once(path, read, "image_id and round_id")
    asked = dataset.folder / f"visdial_{split}.json"
    wanted = {one.image_id for one in dialogs[: how.limit]}
    ids = [key for key in options if key[0] in wanted]
    ranks = _matched(path, found, options, ids, "image_id and round_id", "ranks", asked)
    # The first rank is the highest score.
    return judge_dialogs(
        split, dialogs, {key: -np.asarray(own) for key, own in ranks.items()}, ci=how.ci
    )


_SCORED: dict[str, Callable[[Path, Dataset, str, EvalSettings], Evaluation]] = {
    "caption": _captions,
    "vqa": _answers,
    "nlvr2": _sentences,
    "visdial": _dialogs,
    "video-qa": _clip_answers,
}


def _texts(
    path: Path, key: str, value: str, ids: Sequence[str], asked: Path, how: EvalSettings
) -> dict[str, str]:
    """What was said by the data set's ids, in their order, as far as `how` limits it."""
    found = _once(path, lambda fields: (fields.text(key), fields.text(value)), key, value)
    return _matched(path, found, set(ids), ids[: how.limit], key, value, asked)


def _once(
    path: Path, read: Callable[[Fields], tuple[K, V]], key: str, value: str = "ranks"
) -> dict[K, V]:
    """What `read` makes of each row; ids that occur twice are refused."""
    found: dict[K, V] = {}
    for number, row in enumerate(read_results(path, key, value)):
        one, own = read(Fields(row, f"{path}, row {number}"))
        if one in found:
            raise ArtifactError(f"{path}: {key} {_shown(one)} occurs twice, again in row {number}")
        found[one] = own
    return found


def _matched(
    path: Path,
    found: Mapping[K, V],
    known: Collection[K],
    ids: Sequence[K],
    key: str,
    value: str,
    asked: Path,
) -> dict[K, V]:
    """What was found for `ids`, in their order: all of them, and nothing that is not `known`."""
    unknown = [one for one in found if one not in known]
    if unknown:
        raise ArtifactError(f"{path}: {key} {_some(unknown)} not in {asked}")
    missing = [one for one in ids if one not in found]
    if missing:
        raise ArtifactError(
            f"{path} has no {value} for {key} {_some(missing)}, in {asked}; each is needed, "
            "also of a picture that eval could not read (with --limit N: of the first N rows)"
        )
    return {one: found[one] for one in ids}


def _some(ids: list[Any]) -> str:
    more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
    return f"{_shown(ids[0])}{more}"


def _shown(one: object) -> str:
    return ", ".join(map(str, one)) if isinstance(one, tuple) else str(one)
