"""`data prepare`: a DATA folder out of the official downloads of a data set.

    prepare("coco", ["dataset_coco.json"], "data/coco", images="downloads/coco")

Pictures and clips are not copied: `images` (of video sets `videos`) in the written folder is a link
to the folder where they are, and every row names its picture below that. With no such folder the
annotations alone are written, which is enough to score predictions.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from blip_edge import __version__
from blip_edge.artifact import Provenance, sha256_file, write_provenance, writing
from blip_edge.data.dataset import Dataset
from blip_edge.data.draft import Draft
from blip_edge.data.prepare.media import Clips, Pictures
from blip_edge.data.prepare.sets import SETS, Name, OfficialSet
from blip_edge.data.prepare.sources import files, pairs
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.progress import SILENT, Progress

__all__ = ["prepare"]


def prepare(
    name: Name,
    sources: Iterable[Path | str],
    output: Path | str,
    *,
    images: Path | str | None = None,
    mapping: Path | str | None = None,
    min_answers: int = 9,
    max_bad: float = 0.01,
    force: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Write the data set `name` to `output`, from files as their owners publish them.

    Args:
        images: the folder that the pictures (of a video set the clips) are below.
        mapping: of cc a table of addresses and where each was downloaded to, below `images`; of
            msvd-qa the official list of clips' names and numbers.
        min_answers: of vqa, how many questions an answer must be the most frequent one of, to be
            among those that are ranked.
        max_bad: the share of a file's entries that may be unusable, their pictures missing for
            example.

    Raises:
        ArtifactError: a file is missing or of another format, or too many entries are bad.
        UsageError: an option does not fit the set.
    """
    start = perf_counter()
    what = _known(name, mapping, min_answers, max_bad)
    sources = list(sources)
    found = files(sources, what.names)
    root = None if images is None else _root(Path(images), Path(output))
    options: dict[str, Any] = {
        "mapping": pairs(Path(mapping)) if mapping is not None else {},
        "min_answers": min_answers,
    }
    with writing(Path(output), force=force, reads=(*sources, images)) as folder:
        draft = Draft(folder, max_bad=max_bad, progress=progress)
        media = Clips(root) if what.clips else Pictures(root)
        what.write(found, media, draft, **{key: options[key] for key in what.options})
        if not draft.counts:
            raise ArtifactError(f"{', '.join(map(str, found))}: there is no usable entry")
        if root is not None:
            (folder / ("videos" if what.clips else "images")).symlink_to(root)
        draft.finish(name=name, version=what.version, license=what.license, image_root="images")
        recipe = {"name": name, "min_answers": min_answers, "max_bad": max_bad}
        write_provenance(folder, _provenance(found, recipe, perf_counter() - start))
    if root is None:
        progress.say("note: no folder of pictures was given, so only annotations were written")
    return Dataset.open(output)


def _known(name: Name, mapping: Path | str | None, min_answers: int, max_bad: float) -> OfficialSet:
    if name not in SETS:
        raise UsageError(f"there is no data set {name!r}; there are {', '.join(SETS)}")
    if mapping is not None and "mapping" not in SETS[name].options:
        others = [other for other, what in SETS.items() if "mapping" in what.options]
        raise UsageError(f"{name} takes no mapping; {' and '.join(others)} do")
    if not 0 <= max_bad <= 1:
        raise UsageError(f"max_bad is a share, 0 to 1, not {max_bad}")
    if min_answers < 1:
        raise UsageError(f"min_answers is at least 1, not {min_answers}")
    return SETS[name]


def _root(images: Path, output: Path) -> Path:
    """The folder that the written one links to."""
    if not images.is_dir():
        raise ArtifactError(f"{images} is not a folder; --images is where the pictures are")
    # A data set would be among its own pictures, and so would all that is put beside it later.
    if output.resolve().is_relative_to(images.resolve()):
        raise UsageError(f"{output} lies below the pictures in {images}; put it elsewhere")
    return images.resolve()


def _provenance(files: Sequence[Path], recipe: dict[str, Any], seconds: float) -> Provenance:
    return Provenance(
        verb="data prepare",
        recipe=recipe,
        parents=[{"path": str(path), "sha256": sha256_file(path)} for path in files],
        version=__version__,
        seconds=round(seconds, 3),
    )
