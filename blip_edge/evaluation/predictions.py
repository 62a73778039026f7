"""Score a results file that any captioner wrote, in the field's own format.

The file is a JSON list of `{"image_id", "caption"}`, one for each picture of the split. Only
annotations are read: the pictures need not be there.
"""

from pathlib import Path

from blip_edge.artifact import read_json
from blip_edge.data.rows import Fields
from blip_edge.errors import ArtifactError
from blip_edge.evaluation.references import CaptionSet, ImageId
from blip_edge.evaluation.result import Evaluation, check_task

__all__ = ["score_predictions"]


def score_predictions(
    predictions: Path, data: Path, *, task: str = "caption", split: str = "test"
) -> Evaluation:
    """The metrics of a results file; ids may be written as numbers or as text.

    Raises:
        UsageError: a task that this version has not.
        ArtifactError: the file is not such a list, or its ids are not exactly the split's.
    """
    check_task(task)
    captions = CaptionSet.read(Path(data), split)
    said = _matched(Path(predictions), captions)
    return Evaluation(
        task=task,
        split=split,
        items=len(said),
        metrics=captions.score(said),
        predictions=[{"image_id": key, "caption": text} for key, text in said.items()],
    )


def _matched(path: Path, captions: CaptionSet) -> dict[ImageId, str]:
    """The captions by the data set's ids, in the order of its samples."""
    asked = captions.dataset.folder / f"caption_{captions.split}.json"
    found = _read(path)
    ids = {str(sample.image_id): sample.image_id for sample in captions.samples}
    unknown = [key for key in found if key not in ids]
    if unknown:
        raise ArtifactError(f"{path}: image_id {_some(unknown)} not in {asked}")
    missing = [key for key in ids if key not in found]
    if missing:
        raise ArtifactError(f"{path} has no caption for image_id {_some(missing)}, in {asked}")
    return {image_id: found[key] for key, image_id in ids.items()}


def _read(path: Path) -> dict[str, str]:
    rows = read_json(path)
    if not isinstance(rows, list):
        raise ArtifactError(f'{path} is not a list of {{"image_id", "caption"}}')
    found: dict[str, str] = {}
    for number, row in enumerate(rows):
        fields = Fields(row, f"{path}, row {number}")
        key = fields.text("image_id")
        if key in found:
            raise ArtifactError(f"{path}: image_id {key} occurs twice, again in row {number}")
        found[key] = fields.text("caption")
    return found


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
    return f"{ids[0]}{more}"
