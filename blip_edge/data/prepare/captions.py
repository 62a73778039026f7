"""COCO, Flickr30k and nocaps: pictures and what people say of them.

Formats that are read:

* Karpathy's `dataset_*.json`: `images` with `filepath`, `filename`, `split` (train, restval, val,
  test), `sentences[].raw` and, of COCO, `cocoid`. "restval" is trained on, as everybody does.
* BLIP's `coco_karpathy_*.json`, `flickr30k_*.json`: rows of `image`, `caption` and `image_id`.
* COCO's `captions_*.json` and nocaps: `images` with `id`, `file_name` and, of nocaps, `domain`;
  `annotations` with `image_id` and `caption`, which the test set of nocaps does not have.
"""

import re
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from blip_edge.data.draft import Draft, Entry, Row
from blip_edge.data.prepare.media import Pictures, coco_names
from blip_edge.data.prepare.sources import entries, has, load, split_of, spoken, unknown
from blip_edge.data.rows import Fields
from blip_edge.errors import ArtifactError

__all__ = ["coco", "flickr30k", "nocaps"]

_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}


def coco(sources: Sequence[Path], pictures: Pictures, draft: Draft) -> None:
    """Write caption_*.json of COCO."""
    _captions(sources, pictures, draft, folder="", prefix="coco")


def flickr30k(sources: Sequence[Path], pictures: Pictures, draft: Draft) -> None:
    """Write caption_*.json of Flickr30k."""
    _captions(sources, pictures, draft, folder="flickr30k-images", prefix="flickr30k")


def nocaps(sources: Sequence[Path], pictures: Pictures, draft: Draft) -> None:
    """Write caption_val.json and caption_test.json of nocaps, with each picture's domain."""
    for path in sources:
        value = load(path)
        if not has(value, "images"):
            raise unknown(path, 'nocaps\' official JSON with "images"')
        _official(path, value, pictures, draft)


def _captions(
    sources: Sequence[Path], pictures: Pictures, draft: Draft, *, folder: str, prefix: str
) -> None:
    for path in sources:
        value = load(path)
        if has(value, "images", "annotations"):
            _official(path, value, pictures, draft)
        elif has(value, "images"):
            _karpathy(path, value, pictures, draft, folder=folder, prefix=prefix)
        elif isinstance(value, list):
            split = _SPLITS[split_of(path).replace("dev", "val")]
            read = partial(_blip, split=split, pictures=pictures)
            rows = entries(enumerate(value), read, str(path))
            draft.rows(f"caption_{split}.json", rows, total=len(value))
        else:
            raise unknown(path, "Karpathy's JSON, BLIP's rows, COCO's captions")


def _karpathy(
    path: Path, value: Any, pictures: Pictures, draft: Draft, *, folder: str, prefix: str
) -> None:
    splits: dict[str, list[tuple[int, Any]]] = {}
    for number, image in enumerate(Fields(value, str(path)).items("images")):
        # What has no split is told with its row when it is read.
        split = (
            _SPLITS.get(str(image.get("split")), "train") if isinstance(image, dict) else "train"
        )
        splits.setdefault(split, []).append((number, image))
    for split, images in splits.items():
        read = partial(_image, split=split, pictures=pictures, folder=folder, prefix=prefix)
        rows = entries(images, read, f"{path}: images")
        draft.rows(f"caption_{split}.json", rows, total=len(images))


def _image(fields: Fields, *, split: str, pictures: Pictures, folder: str, prefix: str) -> Entry:
    if fields.text("split") not in _SPLITS:
        raise fields.wrong("split", f"is none of {', '.join(_SPLITS)}")
    name = "/".join(filter(None, (fields.text("filepath", folder), fields.text("filename"))))
    if fields.has("cocoid"):
        number = fields.integer("cocoid")
        image = pictures.find(*coco_names(number, name))
    else:
        number, image = fields.integer("imgid"), pictures.find(name)
    texts = [(part, part.text("raw")) for part in fields.parts("sentences")]
    apart = split == "train"
    image_id = f"{prefix}_{number}" if apart else number
    return _rows(fields, "raw", image, texts, image_id, apart=apart)


def _blip(fields: Fields, *, split: str, pictures: Pictures) -> Entry:
    name = fields.text("image")
    digits = re.search(r"(\d+)\.\w+$", name)
    numbered = digits is not None and "COCO_" in name
    names = coco_names(int(digits.group(1)), name) if digits and numbered else (name,)
    # BLIP's evaluation takes the digits of the file's name, where val and test leave the id out.
    default = str(int(digits.group(1))) if digits else name
    image_id = fields.text("image_id", default)
    texts = [(fields, text) for text in fields.texts("caption")]
    known: str | int = int(image_id) if image_id.isdigit() and split != "train" else image_id
    return _rows(fields, "caption", pictures.find(*names), texts, known, apart=split == "train")


def _official(path: Path, value: Any, pictures: Pictures, draft: Draft) -> None:
    split = split_of(path).replace("dev", "val")
    fields = Fields(value, str(path))
    images = fields.items("images")
    captions, errors = _grouped(path, fields)
    year = re.search(r"20\d\d", path.stem)
    read = partial(
        _annotated,
        captions=captions if "annotations" in value else None,
        pictures=pictures,
        folder=f"{split}{year.group()}/" if year else "",
        apart=split == "train",
    )
    found = chain(errors, entries(enumerate(images), read, f"{path}: images"))
    draft.rows(f"caption_{split}.json", found, total=len(images))


def _grouped(path: Path, fields: Fields) -> tuple[dict[int, list[str]], list[Entry]]:
    """The captions of each image id, and the annotations that could not be read."""
    captions: dict[int, list[str]] = {}

    def read(note: Fields) -> Entry:
        text = spoken(note, "caption", note.text("caption"))
        captions.setdefault(note.integer("image_id"), []).append(text)
        return ()

    values = fields.items("annotations") if fields.has("annotations") else ()
    read_all = entries(enumerate(values), read, f"{path}: annotations")
    return captions, [entry for entry in read_all if entry]


def _annotated(
    fields: Fields,
    *,
    captions: dict[int, list[str]] | None,
    pictures: Pictures,
    folder: str,
    apart: bool,
) -> Entry:
    number, file = fields.integer("id"), fields.text("file_name")
    image = pictures.find(*coco_names(number, f"{folder}{file}")) if folder else pictures.find(file)
    more: Row = {"domain": fields.text("domain")} if fields.has("domain") else {}
    if captions is None:
        return ({"image": image, "img_id": number, **more},)
    texts = [(fields, text) for text in captions.get(number, ())]
    if not texts:
        raise fields.wrong("id", f"is {number}, of which no annotation says anything")
    image_id = f"coco_{number}" if apart else number
    return _rows(fields, "caption", image, texts, image_id, apart=apart, more=more)


def _rows(
    fields: Fields,
    key: str,
    image: str,
    texts: Iterable[tuple[Fields, str]],
    image_id: str | int,
    *,
    apart: bool,
    more: Row | None = None,
) -> Entry:
    """A row for each caption, or `apart` being off one row of them all, and the empty captions."""
    good, errors = [], list[ArtifactError]()
    for where, text in texts:
        try:
            good.append(spoken(where, key, text.strip()))
        except ArtifactError as error:
            errors.append(error)
    if not good and not errors:
        raise fields.wrong(key, "is missing: nothing is said of the picture")
    row: Row = {"image": image, "image_id": image_id, **(more or {})}
    if apart:
        return [*({**row, "caption": text} for text in good), *errors]
    return [*([{**row, "caption": good}] if good else []), *errors]
