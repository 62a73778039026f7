"""OVAD: parts of pictures, and which of 117 attributes they have.

The format is COCO's with `att_vec` (1 yes, 0 no, -1 not known) in each annotation and a list of
`attributes`. The file is taken over as it is but for the pictures' names.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blip_edge.data.draft import Draft
from blip_edge.data.files import boxes_in
from blip_edge.data.prepare.media import Pictures, coco_names
from blip_edge.data.prepare.sources import has, load, placed, unknown
from blip_edge.errors import ArtifactError

__all__ = ["ovad"]


def ovad(sources: Sequence[Path], pictures: Pictures, draft: Draft) -> None:
    """Write attributes_test.json."""
    file = "attributes_test.json"
    for path in sources:
        value = load(path)
        if not has(value, "images", "annotations", "attributes"):
            raise unknown(path, 'OVAD\'s JSON with "images", "annotations" and "attributes"')
        kept: list[Any] = []
        errors: list[ArtifactError] = []
        images: dict[int, Any] = {}
        for number, box in enumerate(boxes_in(value, str(path))):
            try:
                if isinstance(box, ArtifactError):
                    raise box
                image_id = value["annotations"][number]["image_id"]
                found = pictures.find(*coco_names(image_id, f"val2017/{Path(box.image).name}"))
            except ArtifactError as error:
                errors.append(placed(error, f"{path}: row {number}"))
                continue
            images[image_id] = {"id": image_id, "file_name": found}
            kept.append(value["annotations"][number])
        draft.judge(file, errors, len(kept) + len(errors))
        whole = {**value, "images": list(images.values()), "annotations": kept}
        draft.document(file, whole, items=len(kept))
