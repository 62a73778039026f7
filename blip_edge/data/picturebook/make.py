"""Make a data set of the pictures in packages: captions in three splits, told by the names.

Which split a picture is in depends on its name alone, so that it stays there whatever else is in
the set. Open Clip Art's texts are noisy, so all of them are in `web_train.json`. `pictures.json`
says of each picture where it is from and under which licence.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Literal

from blip_edge import __version__
from blip_edge.artifact import Provenance, write_provenance, writing
from blip_edge.data.dataset import Dataset
from blip_edge.data.draft import Draft, Entry, Row, Unavailable
from blip_edge.data.parallel import in_order
from blip_edge.data.picturebook import openclipart as clipart
from blip_edge.data.picturebook import openmoji as emoji
from blip_edge.data.picturebook import stamps as stamp
from blip_edge.data.picturebook.entry import Found
from blip_edge.data.picturebook.picture import (
    draw,
    looks_photographic,
    on_white,
    renderer,
    split_of,
)
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.progress import SILENT, Progress

__all__ = ["PictureSet", "make_pictures"]

PictureSet = Literal["stamps", "openmoji", "picturebook", "openclipart"]

_QUALITY = 90


@dataclass(frozen=True)
class _Made:
    """What became of a picture."""

    found: Found
    photo: bool = False
    error: ArtifactError | None = None


def make_pictures(
    name: PictureSet,
    output: Path | str,
    *,
    packages: Sequence[Path | str] = (),
    size: int = 256,
    drawings: bool = True,
    max_bad: float = 0.01,
    force: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Write the pictures of Tux Paint's stamps, of OpenMoji, of both, or of Open Clip Art.

    Args:
        packages: a .deb, a .tgz or a folder unpacked from one; what is not given is downloaded.
        size: pixels of a picture's longest side.
        drawings: whether stamps that are SVG are drawn too, which needs a program for it.

    Raises:
        ArtifactError: a package cannot be had, or too many of its pictures are damaged.
        MissingExtraError: a program that draws or unpacks is not installed.
        UsageError: an option makes no sense.
    """
    start = perf_counter()
    if size < 16:
        raise UsageError(f"size is at least 16 pixels, not {size}")
    given = _sorted(name, packages)
    if drawings or name != "stamps":
        renderer()  # before a long download
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory(prefix="blip-edge-")))
        folder = stack.enter_context(writing(Path(output), force=force))
        found, versions = _find(name, given, scratch, drawings=drawings, progress=progress)
        draft = Draft(folder, max_bad=max_bad, progress=progress)
        made = list(progress.track(_make(found, folder, size), "drawing", total=len(found)))
        _write(draft, made, noisy=name == "openclipart")
        licenses = sorted({item.license for item in found})
        draft.finish(
            name=name,
            version=", ".join(versions),
            license=" and ".join(licenses),
            image_root="images",
        )
        recipe = {"name": name, "size": size, "drawings": drawings}
        seconds = round(perf_counter() - start, 3)
        provenance = Provenance(
            verb="data make", recipe=recipe, version=__version__, seconds=seconds
        )
        write_provenance(folder, provenance)
    return Dataset.open(output)


def _sorted(name: PictureSet, packages: Sequence[Path | str]) -> dict[str, Path]:
    """Which of the given packages is which."""
    given: dict[str, Path] = {}
    for path in map(Path, packages):
        if not path.exists():
            raise ArtifactError(f"{path} is missing; give a package or a folder unpacked from it")
        tables = (path / emoji.TABLE, path / "package" / emoji.TABLE)
        is_emoji = path.suffix == ".tgz" or any(table.is_file() for table in tables)
        which = "openmoji" if is_emoji else "openclipart" if name == "openclipart" else "stamps"
        if name not in (which, "picturebook") or which in given:
            raise UsageError(f"{name} takes no {'second ' * (which in given)}{which} ({path})")
        given[which] = path
    return given


def _find(
    name: PictureSet, given: dict[str, Path], scratch: Path, *, drawings: bool, progress: Progress
) -> tuple[list[Found], list[str]]:
    """All pictures of the set, and the versions of the packages that they are from."""
    found: list[Found] = []
    versions: list[str] = []
    if name == "openclipart":
        progress.say("openclipart: opening openclipart-svg")
        folder, version = clipart.open_openclipart(given.get(name), scratch)
        return [*clipart.openclipart(folder)], [f"openclipart {version}"]
    if name != "openmoji":
        progress.say("stamps: opening tuxpaint-stamps-default")
        folder, version = stamp.open_stamps(given.get("stamps"), scratch)
        found += stamp.stamps(folder, drawings=drawings)
        versions.append(f"stamps {version}")
    if name != "stamps":
        progress.say("openmoji: opening openmoji")
        folder, version = emoji.open_openmoji(given.get("openmoji"), scratch)
        found += emoji.openmoji(folder)
        versions.append(f"openmoji {version}")
    return found, versions


def _make(found: Sequence[Found], folder: Path, size: int) -> Iterator[_Made]:
    """Draw every picture into `folder`."""
    for below in {Path(item.image).parent for item in found}:
        (folder / "images" / below).mkdir(parents=True)

    def make(item: Found) -> _Made:
        try:
            image = draw(item.path, size)
            made = on_white(image, size)
        except Unavailable as error:
            return _Made(item, error=Unavailable(f"{item.source}: {error}"))
        except ArtifactError as error:
            return _Made(item, error=error)
        made.save(folder / "images" / item.image, quality=_QUALITY, optimize=True)
        return _Made(item, photo=item.path.suffix != ".svg" and looks_photographic(image))

    return in_order(make, found)


def _write(draft: Draft, made: Sequence[_Made], *, noisy: bool) -> None:
    if noisy:
        draft.rows("web_train.json", map(_web, made), total=len(made))
    for split in () if noisy else ("train", "val", "test"):
        chosen = [item for item in made if split_of(item.found.family) == split]
        entries = (_entry(item, apart=split == "train") for item in chosen)
        draft.rows(f"caption_{split}.json", entries, total=len(chosen))
    draft.rows("pictures.json", ((_origin(item),) for item in made if item.error is None))


def _entry(item: _Made, *, apart: bool) -> Entry:
    if item.error is not None:
        return (item.error,)
    caption = item.found.caption
    return ({"image": item.found.image, "caption": caption if apart else [caption]},)


def _web(item: _Made) -> Entry:
    if item.error is not None:
        return (item.error,)
    found = item.found
    return [{"image": found.image, "caption": text} for text in (found.caption, *found.also)]


def _origin(item: _Made) -> Row:
    found = item.found
    keys = ("image", "category", "source", "license")
    return {**{key: getattr(found, key) for key in keys}, "photo": item.photo}
