"""Score a results file that any model wrote, in the field's own format.

For captions a JSON list of `{"image_id", "caption"}`, one for each picture of the split; for
questions one of `{"question_id", "answer"}`. Only annotations are read: the pictures need not be
there.
"""

from collections.abc import Collection
from pathlib import Path

from blip_edge.artifact import read_json
from blip_edge.data import Dataset
from blip_edge.data.rows import Fields
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation.references import CaptionSet
from blip_edge.evaluation.result import Evaluation
from blip_edge.evaluation.vqa import vqa_metrics

__all__ = ["score_predictions"]

_FORMATS = {"caption": ("image_id", "caption"), "vqa": ("question_id", "answer")}


def score_predictions(
    predictions: Path, data: Path, *, task: str = "caption", split: str = "test"
) -> Evaluation:
    """The metrics of a results file; ids may be written as numbers or as text.

    Raises:
        UsageError: a task that has no results format here.
        ArtifactError: the file is not such a list, or its ids are not exactly the split's.
    """
    if task not in _FORMATS:
        raise UsageError(
            f"no results file of the task {task!r} can be scored; what can: {', '.join(_FORMATS)}"
        )
    score = _captions if task == "caption" else _answers
    return score(Path(predictions), Path(data), split)


def _captions(predictions: Path, data: Path, split: str) -> Evaluation:
    captions = CaptionSet.read(data, split)
    ids = {str(sample.image_id): sample.image_id for sample in captions.samples}
    said = _matched(predictions, "caption", ids, data / f"caption_{split}.json")
    found = {ids[key]: text for key, text in said.items()}
    return Evaluation(
        task="caption",
        split=split,
        items=len(found),
        metrics=captions.score(found),
        predictions=[{"image_id": key, "caption": text} for key, text in found.items()],
    )


def _answers(predictions: Path, data: Path, split: str) -> Evaluation:
    dataset = Dataset.open(data)
    rows = dataset.questions(split)
    asked = data / f"vqa_{split}.json"
    said = _matched(predictions, "vqa", [row.question_id for row in rows], asked)
    return Evaluation(
        task="vqa",
        split=split,
        items=len(said),
        metrics=vqa_metrics(said, rows, dataset),
        predictions=[{"question_id": key, "answer": text} for key, text in said.items()],
    )


def _matched(path: Path, task: str, ids: Collection[str], asked: Path) -> dict[str, str]:
    """What was said by the data set's ids, in their order."""
    key, value = _FORMATS[task]
    found = _read(path, key, value)
    known = set(ids)
    unknown = [one for one in found if one not in known]
    if unknown:
        raise ArtifactError(f"{path}: {key} {_some(unknown)} not in {asked}")
    missing = [one for one in ids if one not in found]
    if missing:
        raise ArtifactError(f"{path} has no {value} for {key} {_some(missing)}, in {asked}")
    return {one: found[one] for one in ids}


def _read(path: Path, key: str, value: str) -> dict[str, str]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ArtifactError(f'{path} is not a list of {{"{key}", "{value}"}}')
    found: dict[str, str] = {}
    for number, row in enumerate(rows):
        fields = Fields(row, f"{path}, row {number}")
        one = fields.text(key)
        if one in found:
            raise ArtifactError(f"{path}: {key} {one} occurs twice, again in row {number}")
        found[one] = fields.text(value)
    return found


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
    return f"{ids[0]}{more}"
