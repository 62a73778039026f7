"""NLVR2: sentences that are true or false of two pictures.

Formats that are read: the official `train.json`, `dev.json`, `test1.json` (a document a line, with
`identifier`, `sentence`, `label` and, in train, `directory`), and BLIP's `nlvr_*.json` (rows of
`sentence`, `label`, `images`). The official files leave the pictures' names to the identifier:
`dev-850-0-1` is a sentence about `dev-850-0-img0.png` and `dev-850-0-img1.png`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from blip_edge.data.draft import Draft, Entry, Row
from blip_edge.data.prepare.media import Pictures
from blip_edge.data.prepare.sources import entries, load, split_of, spoken, unknown
from blip_edge.data.rows import Fields, SentenceRow

__all__ = ["nlvr2"]


def nlvr2(sources: Sequence[Path], pictures: Pictures, draft: Draft) -> None:
    """Write nlvr_*.json."""
    for path in sources:
        value = load(path)
        if isinstance(value, dict) and "identifier" in value:
            value = [value]  # a file of one line
        if not isinstance(value, list):
            raise unknown(path, "NLVR2's official JSON lines, BLIP's rows")
        split = split_of(path).replace("val", "dev")
        rows = entries(enumerate(value), partial(_sentence, pictures=pictures), str(path))
        draft.rows(f"nlvr_{split}.json", rows, total=len(value))


def _sentence(fields: Fields, *, pictures: Pictures) -> Entry:
    if fields.has("images"):
        read = SentenceRow.read(fields)
        label, names = str(read.label), read.images
    else:
        label, names = fields.text("label"), _names(fields)
        if label not in ("True", "False"):
            raise fields.wrong("label", f'is {label!r}, not "True" or "False"')
    row: Row = {"identifier": fields.text("identifier")} if fields.has("identifier") else {}
    row["sentence"] = spoken(fields, "sentence", fields.text("sentence"))
    row |= {"label": label, "images": [pictures.find(name) for name in names]}
    return (row,)


def _names(fields: Fields) -> tuple[str, str]:
    """The two pictures' names, in the folders that the official download has."""
    identifier = fields.text("identifier")
    parts = identifier.split("-")
    if len(parts) != 4:
        raise fields.wrong("identifier", f"is {identifier!r}, not split-set-pair-sentence")
    folder = parts[0] + (f"/{fields.text('directory')}" if fields.has("directory") else "")
    stem = "-".join(parts[:3])
    return f"{folder}/{stem}-img0.png", f"{folder}/{stem}-img1.png"
