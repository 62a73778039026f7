"""Annotation files to rows: lists of rows, VisDial's tables, OVAD's boxes.

Every reader yields a row or, in its place, the `ArtifactError` that says what is wrong with it;
`strict` raises the first. So a check can list them all, and everything else stops at once.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from blip_edge.artifact import read_json
from blip_edge.data.rows import Box, Dialog, Fields, Round
from blip_edge.errors import ArtifactError

__all__ = [
    "answers",
    "attributes",
    "boxes",
    "boxes_in",
    "dialogs",
    "dialogs_in",
    "document",
    "listed",
    "parsed",
    "strict",
]

R = TypeVar("R")


def document(path: Path) -> Any:
    """The JSON in `path`; of a `.jsonl`, the list of its lines.

    Raises:
        ArtifactError: the file is missing or not JSON.
    """
    if not path.is_file():
        raise ArtifactError(f"{path} is missing: the data set has no such annotations")
    if path.suffix != ".jsonl":
        return read_json(path)
    try:
        # Not splitlines: it also splits at characters that JSON leaves as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is not one JSON document a line: {error}") from None


def listed(path: Path) -> list[Any]:
    """The list in `path`.

    Raises:
        ArtifactError: the file is missing, not JSON, or not a list.
    """
    rows = document(path)
    if not isinstance(rows, list):
        raise ArtifactError(f"{path} is not a list of rows")
    return rows


def answers(path: Path) -> list[str]:
    """A list of answers to be ranked, each of them once.

    Raises:
        ArtifactError: the file is missing, not JSON, or not such a list.
    """
    found = read_json(path)
    texts = isinstance(found, list) and all(isinstance(one, str) and one.strip() for one in found)
    if not found or not texts:
        raise ArtifactError(f"{path} is not a JSON list of strings with something in them")
    twice = next((answer for answer, count in Counter(found).items() if count > 1), None)
    if twice is not None:
        raise ArtifactError(f"{path} holds {twice!r} more than once; an answer is ranked once")
    return list(found)


def parsed(
    values: Iterable[Any], read: Callable[[Fields], R], where: str
) -> Iterator[R | ArtifactError]:
    """Each value read by `read`, or what is wrong with it."""
    for number, value in enumerate(values):
        try:
            yield read(Fields(value, f"{where}: row {number}"))
        except ArtifactError as error:
            yield error


def strict(rows: Iterable[R | ArtifactError]) -> list[R]:
    """All rows.

    Raises:
        ArtifactError: one of them is wrong.
    """
    found = []
    for row in rows:
        if isinstance(row, ArtifactError):
            raise row
        found.append(row)
    return found


def dialogs(path: Path) -> Iterator[Dialog | ArtifactError]:
    """VisDial 1.0, with the dense relevance of the file `<stem>_dense.json` if it is there."""
    beside = path.with_name(f"{path.stem}_dense.json")
    dense = {}
    if beside.is_file():
        dense = dict(strict(parsed(listed(beside), _relevance, str(beside))))
    yield from dialogs_in(document(path), str(path), dense)


def dialogs_in(
    value: object, where: str, dense: dict[tuple[int, int], tuple[float, ...]] | None = None
) -> Iterator[Dialog | ArtifactError]:
    """The dialogs of VisDial's JSON; `dense` is the relevance by image id and round from 1."""
    data = Fields(value, where).part("data")
    texts = data.many("questions", str), data.many("answers", str)
    read = partial(_dialog, texts=texts, dense=dense or {})
    yield from parsed(data.items("dialogs"), read, where)


def attributes(path: Path) -> list[dict[str, Any]]:
    """OVAD's attributes: `id`, `name` ("colour:red"), `type`, `is_has_att`, `freq_set`."""
    return list(Fields(document(path), str(path)).many("attributes", dict))


def boxes(path: Path) -> Iterator[Box | ArtifactError]:
    """OVAD's annotations."""
    yield from boxes_in(document(path), str(path))


def boxes_in(value: object, where: str) -> Iterator[Box | ArtifactError]:
    """The annotations of OVAD's JSON."""
    fields = Fields(value, where)
    images = parsed(fields.items("images"), _image, f"{where}: images")
    length = len(fields.many("attributes", dict))
    read = partial(_box, images=dict(strict(images)), length=length)
    yield from parsed(fields.items("annotations"), read, where)


def _relevance(fields: Fields) -> tuple[tuple[int, int], tuple[float, ...]]:
    # The validation file says gt_relevance, the training file relevance.
    key = "gt_relevance" if fields.has("gt_relevance") else "relevance"
    return (fields.integer("image_id"), fields.integer("round_id")), fields.many(key, float)


def _dialog(
    fields: Fields,
    *,
    texts: tuple[tuple[str, ...], tuple[str, ...]],
    dense: dict[tuple[int, int], tuple[float, ...]],
) -> Dialog:
    image_id = fields.integer("image_id")
    # The official files leave it to the reader to make the file's name of the id.
    image = fields.text("image", f"VisualDialog_val2018_{image_id:012d}.jpg")
    rounds = tuple(
        _round(part, texts, dense.get((image_id, number)))
        for number, part in enumerate(fields.parts("dialog"), start=1)
    )
    return Dialog(image_id, image, fields.text("caption"), rounds)


def _round(
    fields: Fields,
    texts: tuple[tuple[str, ...], tuple[str, ...]],
    relevance: tuple[float, ...] | None,
) -> Round:
    questions, answers = texts
    question, options = fields.integer("question"), fields.many("answer_options", int)
    gt = fields.integer("gt_index")
    if not 0 <= question < len(questions):
        raise fields.wrong("question", f"is {question}, outside the table of questions")
    if not all(0 <= option < len(answers) for option in options):
        raise fields.wrong("answer_options", "lead outside the table of answers")
    if not 0 <= gt < len(options):
        raise fields.wrong("gt_index", f"is {gt}, outside the {len(options)} options")
    if relevance is not None and len(relevance) != len(options):
        raise fields.wrong("answer_options", f"have {len(relevance)} relevances")
    return Round(questions[question], tuple(answers[option] for option in options), gt, relevance)


def _image(fields: Fields) -> tuple[int, str]:
    return fields.integer("id"), fields.text("file_name")


def _box(fields: Fields, *, images: dict[int, str], length: int) -> Box:
    image_id = fields.integer("image_id")
    if image_id not in images:
        raise fields.wrong("image_id", f"is {image_id}, which no image has")
    xywh, vector = fields.many("bbox", float), fields.many("att_vec", int)
    if len(xywh) != 4:
        raise fields.wrong("bbox", f"has {len(xywh)} numbers, not x, y, width, height")
    if len(vector) != length:
        raise fields.wrong("att_vec", f"has {len(vector)} labels for {length} attributes")
    return Box(images[image_id], (xywh[0], xywh[1], xywh[2], xywh[3]), vector)
