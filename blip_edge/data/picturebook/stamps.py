"""The stamps of Tux Paint: some 950 pictures of things, each with a sentence.

Debian's tuxpaint-stamps-default puts a `.txt` beside every `.png` or `.svg`: its first line is an
English sentence, the others are translations (`de.utf8=…`). All of it is under the GPL, version 2.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from blip_edge.artifact import inside
from blip_edge.data.picturebook.entry import Found
from blip_edge.data.picturebook.packages import debian_folder
from blip_edge.data.picturebook.picture import family
from blip_edge.errors import ArtifactError

__all__ = ["LICENSE", "open_stamps", "stamps"]

LICENSE = "GPL-2.0-or-later"

_PACKAGE = "tuxpaint-stamps-default"
_BELOW = Path("usr/share/tuxpaint/stamps")
# Straight punctuation, because that is what an uncased WordPiece vocabulary has.
_STRAIGHT = str.maketrans(
    {"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": " - ", "…": "...", "\u00a0": " "}
)


def open_stamps(given: Path | None, scratch: Path) -> tuple[Path, str]:
    """The folder of the stamps, and the package's version.

    Raises:
        ArtifactError: the package cannot be downloaded, or holds no stamps.
    """
    return debian_folder(_PACKAGE, _BELOW, "*.txt", given, scratch, what="stamps")


def stamps(folder: Path, *, drawings: bool = True) -> Iterator[Found]:
    """All stamps with an English sentence, in the order of their names."""
    for text in sorted(folder.rglob("*.txt")):
        endings = (".png", ".svg") if drawings else (".png",)
        # Where both are there, they are the same picture.
        picture = next((p for p in map(text.with_suffix, endings) if p.is_file()), None)
        if picture is None:
            continue
        name = picture.relative_to(folder)
        if caption := _english(text):
            slug = re.sub(r"[^a-z0-9]+", "-", name.with_suffix("").as_posix().lower())
            yield Found(
                path=inside(folder, name.as_posix()),
                image=f"stamps/{slug}.jpg",
                caption=caption,
                family=family(name.parent.as_posix(), name.stem),
                category=name.parts[0],
                source=name.as_posix(),
                license=LICENSE,
            )


def _english(path: Path) -> str:
    """The first line that is no translation."""
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from None
    for line in text.splitlines():
        if line and not re.match(r"[a-z]{2,3}(?:[_@][A-Za-z]+)*\.utf8\s*=", line):
            return " ".join(line.translate(_STRAIGHT).split())
    return ""
