"""Search in one's own pictures: every picture's vector in a folder, and texts looked up in it.

A text is compared with all vectors, and the k best pictures are read again with the text in view,
as BLIP is measured on retrieval (paper, section 5.1): the last word has the matching head.

    INDEX/index.json     the model and its digest, the pictures' folder and their names
    INDEX/vectors.npy    (I, E) float16
    INDEX/skipped.jsonl  pictures that could not be read, if there were any
"""

# I pictures · E width of the shared space

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blip_edge.artifact import (
    kind,
    read_json,
    sha256_file,
    sha256_folder,
    write_json,
    writing,
)
from blip_edge.errors import ArtifactError, UsageError, import_extra
from blip_edge.preprocess import open_image
from blip_edge.progress import SILENT, Progress
from blip_edge.runtime.edge_model import EdgeModel
from blip_edge.runtime.engine import F32
from blip_edge.runtime.load import load
from blip_edge.runtime.manifest import read_manifest
from blip_edge.runtime.matching import softmax
from blip_edge.runtime.picture_folder import pictures_below

__all__ = ["PictureIndex", "SearchHit", "index_pictures"]

_BATCH = 32
# Beyond this many vectors a library that is made for it is worth its installation.
_MOST_BY_NUMPY = 100_000


@dataclass(frozen=True)
class SearchHit:
    """A picture that was found."""

    image: str
    """Its path."""
    itc: float
    """The cosine of picture and text."""
    itm: float | None
    """The probability that they match, between 0 and 1; None where it was not read again."""


def index_pictures(
    model: Path,
    pictures: Path,
    output: Path,
    *,
    max_bad: float = 0.01,
    threads: int | None = None,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Embed every picture below the folder `pictures` and write the index to `output`.

    Args:
        model: a bundle or a model folder that compares texts with pictures.
        pictures: is searched with all folders in it; hidden ones are left out.
        output: the INDEX folder.
        max_bad: share of pictures that may be unreadable.
        threads: how many the engine may use.
        force: replace `output` if it is an index.
        progress: who wants to know.

    Raises:
        ArtifactError: no pictures, too many unreadable ones, or a model that does not compare.
    """
    model, pictures = Path(model), Path(pictures)
    for folder in (model.resolve(), pictures.resolve()):
        if not _is_text(str(folder)):
            raise ArtifactError(f"{folder}: its name is not UTF-8, as an index needs; rename it")
    names = pictures_below(pictures)
    with writing(output, force=force, reads=(model, pictures)) as draft:
        opened = load(model, threads=threads)
        opened.require("retrieval")
        kept: list[str] = []
        vectors: list[F32] = []
        skipped: list[dict[str, str]] = []
        for group in progress.track(list(_groups(names)), "embedding"):
            readable = list(_readable(pictures, group, skipped))
            if len(skipped) > max_bad * len(names):
                raise ArtifactError(
                    f"{pictures}: {len(skipped)} of {len(names)} pictures cannot be read, more "
                    f"than {max_bad:.0%}: {skipped[-1]['reason']}"
                )
            if readable:
                vectors.append(opened.embed_image([picture for _, picture in readable]))
                kept += [name for name, _ in readable]
        if not kept:
            raise ArtifactError(f"{pictures}: no picture could be read")
        np.save(draft / "vectors.npy", np.concatenate(vectors).astype(np.float16))
        write_json(draft / "index.json", _document(model, pictures, kept))
        if skipped:
            lines = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in skipped)
            (draft / "skipped.jsonl").write_text(lines, encoding="utf-8")
            progress.say(f"left out {len(skipped)} pictures that cannot be read: skipped.jsonl")
    return output


class PictureIndex:
    """An index that is open, with the model that made it.

    Args:
        folder: what `index_pictures` wrote.
        model: the same model elsewhere; where it was when not given.
        threads: how many the engine may use.

    Raises:
        ArtifactError: no index, or a model that is missing or another one.
    """

    def __init__(
        self, folder: Path, *, model: Path | None = None, threads: int | None = None
    ) -> None:
        self._folder = folder = Path(folder)
        self._root, self.images, self._vectors, made_by = _read(folder)
        at = Path(made_by["path"]) if model is None else Path(model)
        if not at.is_dir():
            raise ArtifactError(f"{folder}: its model {at} is missing; name it with --model")
        if _digest(at) != made_by["sha256"]:
            raise ArtifactError(f"{folder} was made by another model than {at}; index again")
        self._model: EdgeModel = load(at, threads=threads)

    def search(self, text: str, *, limit: int = 10, k: int = 64) -> list[SearchHit]:
        """The `limit` pictures that fit `text` best, best first.

        Args:
            text: what is looked for.
            limit: how many are wanted.
            k: how many of the nearest are read again; 0 goes by the cosine alone.

        Raises:
            UsageError: an empty text, or numbers that make no sense.
            ArtifactError: a picture that was indexed is missing or unreadable.
        """
        if not text.strip():
            raise UsageError("there is nothing to look for: the text is empty")
        if limit < 1 or k < 0:
            raise UsageError(f"limit must be at least 1 and k at least 0, got {limit} and {k}")
        vector = self._model.embed_text(text)
        if self._vectors.shape[1:] != vector.shape:
            raise ArtifactError(
                f"{self._folder}: vectors {self._vectors.shape[1]} wide, and the model's are "
                f"{len(vector)}; index again"
            )
        nearest, cosines = _nearest(self._vectors, vector, max(limit, k))
        found = [
            SearchHit(str(self._root / self.images[number]), float(cosine), None)
            for number, cosine in zip(nearest, cosines, strict=True)
        ]
        read = sorted((self._read_again(one, text) for one in found[:k]), key=lambda one: -one[0])
        return ([hit for _, hit in read] + found[k:])[:limit]

    def _read_again(self, hit: SearchHit, text: str) -> tuple[float, SearchHit]:
        """With what BLIP ranks by: the logit of a match plus the cosine."""
        logits = self._model.itm_logits(Path(hit.image), [text])
        share = float(softmax(logits)[0, 1])
        return float(logits[0, 1]) + hit.itc, SearchHit(hit.image, hit.itc, share)


def _nearest(vectors: NDArray[np.float16], text: F32, k: int) -> tuple[NDArray[np.intp], F32]:
    """(k,) numbers of the vectors with the largest cosine, and the cosines."""
    if len(vectors) > _MOST_BY_NUMPY:
        faiss = import_extra("faiss", "search")
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.asarray(vectors, dtype=np.float32))
        cosines, numbers = index.search(text[None], min(k, len(vectors)))
        return numbers[0], cosines[0]
    every: F32 = vectors.astype(np.float32) @ text
    best = np.argsort(-every, kind="stable")[:k]
    return best, every[best]


def _groups(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), _BATCH):
        yield names[first : first + _BATCH]


def _readable(
    folder: Path, names: Sequence[str], skipped: list[dict[str, str]]
) -> Iterator[tuple[str, Image.Image]]:
    for name in names:
        if not _is_text(name):
            escaped = name.encode("utf-8", "backslashreplace").decode()
            skipped.append({"image": escaped, "reason": f"{escaped}: its name is not UTF-8"})
            continue
        try:
            yield name, open_image(folder / name)
        except ArtifactError as error:
            skipped.append({"image": name, "reason": str(error)})


def _is_text(name: str) -> bool:
    """Whether JSON can hold it: a file's name may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _digest(model: Path) -> str:
    """Of what decides its vectors: to a bundle `bench` adds what it has timed."""
    if kind(model) != "bundle":
        return sha256_folder(model)
    manifest = read_manifest(model, check=False)
    decides = {
        "graphs": {name: graph.sha256 for name, graph in manifest.graphs.items()},
        "tokenizer": sha256_file(manifest.tokenizer),
        "preprocess": manifest.preprocess.to_json(),
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _document(model: Path, pictures: Path, kept: list[str]) -> dict[str, Any]:
    return {
        "format_version": 1,
        "model": {"path": str(model.resolve()), "sha256": _digest(model)},
        "pictures": str(pictures.resolve()),
        "images": kept,
    }


def _read(folder: Path) -> tuple[Path, list[str], NDArray[np.float16], dict[str, str]]:
    source = folder / "index.json"
    if not source.is_file():
        raise ArtifactError(f"{source} is missing; make an index with `blip-edge index`")
    document = read_json(source)
    try:
        root, made_by = Path(document["pictures"]), document["model"]
        images = [str(name) for name in document["images"]]
        model = {"path": str(made_by["path"]), "sha256": str(made_by["sha256"])}
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{source} is no index: {error!r}; index again") from None
    for name in images:
        # As it is written: a link that was indexed may lead wherever its owner likes.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ArtifactError(f"{source}: the path {name!r} leaves the folder; index again")
    try:
        vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{folder / 'vectors.npy'} cannot be read: {error}") from None
    if vectors.dtype != np.float16 or vectors.ndim != 2 or len(vectors) != len(images):
        raise ArtifactError(
            f"{folder}: {len(images)} names, but vectors {vectors.shape} of {vectors.dtype}; "
            "index again"
        )
    return root, images, vectors, model
