"""Open Clip Art: some thousand drawings whose texts are like those of the web.

Debian's openclipart-svg has drawings with Dublin Core in them: a title, now and then a description,
and the licence. Titles are what their authors typed: many name the thing, others a theme, a file or
an e-mail address, some in Italian or French. Icon themes, stars, cards, flags and the like, which
are one thing a thousand times, are left out, and so is what is not in the public domain.
"""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

from blip_edge.artifact import inside
from blip_edge.data.picturebook.entry import Found
from blip_edge.data.picturebook.packages import debian_folder
from blip_edge.data.picturebook.picture import family

__all__ = ["LICENSE", "open_openclipart", "openclipart"]

LICENSE = "CC-PDDC"

_PACKAGE = "openclipart-svg"
_BELOW = Path("usr/share/openclipart/svg")
_REPEATED = (
    *("computer/icons", "computer/buttons", "shapes/stars", "shapes/jigsaw", "shapes/arrows"),
    *("signs_and_symbols/flags", "signs_and_symbols/led", "recreation/games/cards"),
    *("special/gradients", "special/patterns"),
)
# What stands in a drawing's head; reading on could mean megabytes of paths.
_HEAD = 20_000
_FEWEST_WORDS = 3


def open_openclipart(given: Path | None, scratch: Path) -> tuple[Path, str]:
    """The folder of the drawings, and the package's version.

    Raises:
        ArtifactError: the package cannot be downloaded, or holds no drawings.
    """
    return debian_folder(_PACKAGE, _BELOW, "*.svg", given, scratch, what="drawings")


def openclipart(folder: Path) -> Iterator[Found]:
    """Drawings in the public domain that have a title, in the order of their names."""
    for path in sorted(folder.rglob("*.svg")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(_REPEATED):
            continue
        head = path.read_bytes()[:_HEAD].decode("utf-8", errors="replace")
        title, described = _text(head, "title"), _text(head, "description")
        if not title or "publicdomain" not in _license(head):
            continue
        slug = re.sub(r"[^a-z0-9]+", "-", name.removesuffix(".svg").lower())
        tells = len(described.split()) >= _FEWEST_WORDS and described != title
        yield Found(
            path=inside(folder, name),
            image=f"openclipart/{slug}.jpg",
            caption=title,
            also=(described,) if tells else (),
            family=family(Path(name).parent.as_posix(), path.stem),
            category=name.split("/")[0],
            source=name,
            license=LICENSE,
        )


def _text(head: str, name: str) -> str:
    found = re.search(rf"<dc:{name}\b[^>]*>(.*?)</dc:{name}>", head, re.DOTALL)
    return " ".join(unescape(found[1]).split()) if found and "<" not in found[1] else ""


def _license(head: str) -> str:
    """The address of the licence, in small letters."""
    found = re.search(r"<cc:license\b[^>]*resource=\"([^\"]*)\"", head, re.IGNORECASE)
    return found[1].lower() if found else ""
