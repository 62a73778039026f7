"""VisDial 1.0: ten questions about a picture, each with a hundred answers to choose from.

Formats that are read: `visdial_1.0_{train,val}.json` and, beside them, the dense annotations (a
list of `image_id`, `round_id`, `gt_relevance` or `relevance`). The files are taken over as they are
but for the name of each dialog's picture, which the official ones leave to the reader.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blip_edge.data.draft import Draft
from blip_edge.data.files import dialogs_in
from blip_edge.data.prepare.media import Pictures
from blip_edge.data.prepare.sources import has, load, placed, split_of, unknown
from blip_edge.data.rows import Fields
from blip_edge.errors import ArtifactError

__all__ = ["visdial"]


def visdial(sources: Sequence[Path], pictures: Pictures, draft: Draft) -> None:
    """Write visdial_*.json and visdial_*_dense.json."""
    for path in sources:
        value, split = load(path), split_of(path)
        if isinstance(value, list) and all(has(row, "image_id", "round_id") for row in value):
            draft.document(f"visdial_{split}_dense.json", value, items=len(value))
        elif not has(value, "data"):
            raise unknown(path, "VisDial's dialogs, its dense annotations")
        elif split == "test":
            raise ArtifactError(
                f"{path}: the answers of the test set are hidden; give train or val"
            )
        else:
            _dialogs(path, value, split, pictures, draft)


def _dialogs(path: Path, value: Any, split: str, pictures: Pictures, draft: Draft) -> None:
    kept: list[Any] = []
    errors: list[ArtifactError] = []
    file, raw = f"visdial_{split}.json", Fields(value, str(path)).part("data").items("dialogs")
    read = draft.progress.track(dialogs_in(value, str(path)), f"reading {path.name}")
    for number, dialog in enumerate(read):
        try:
            if isinstance(dialog, ArtifactError):
                raise dialog
            given = raw[number].get("image")
            names = (given,) if given else _names(dialog.image_id, split)
            kept.append({**raw[number], "image": pictures.find(*names)})
        except ArtifactError as error:
            errors.append(placed(error, f"{path}: row {number}"))
    draft.judge(file, errors, len(kept) + len(errors))
    data = {**value["data"], "dialogs": kept}
    draft.document(file, {**value, "data": data}, items=len(kept))


def _names(image_id: int, split: str) -> tuple[str, ...]:
    """Training pictures are COCO's; those of val were taken from Flickr for this set."""
    digits = f"{image_id:012d}.jpg"
    if split == "val":
        return (f"VisualDialog_val2018_{digits}",)
    return (f"train2014/COCO_train2014_{digits}", f"val2014/COCO_val2014_{digits}", digits)
