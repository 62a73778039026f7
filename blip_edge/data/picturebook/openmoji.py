"""OpenMoji: some 2,200 drawn emoji, each with its name.

npm's openmoji holds `data/openmoji.json` (`hexcode`, `annotation`, `group`, `subgroups`,
`skintone`) and `color/svg/<hexcode>.svg`. Skin tones repeat a picture and flags are no things, so
both are left out. It is under CC BY-SA 4.0.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from blip_edge.artifact import inside, read_json
from blip_edge.data.files import listed
from blip_edge.data.picturebook.entry import Found
from blip_edge.data.picturebook.packages import npm, unpack_npm
from blip_edge.data.picturebook.picture import family
from blip_edge.data.rows import Fields
from blip_edge.errors import ArtifactError

__all__ = ["LICENSE", "TABLE", "open_openmoji", "openmoji"]

LICENSE = "CC-BY-SA-4.0"
TABLE = Path("data/openmoji.json")

_PACKAGE = "openmoji@17.0.0"
_DRAWINGS = "color/svg"


def open_openmoji(given: Path | None, scratch: Path) -> tuple[Path, str]:
    """The folder of the package, and its version.

    Raises:
        ArtifactError: the package cannot be downloaded, or is another.
    """
    if given is None:
        given = npm(_PACKAGE, scratch)
    if given.is_file():
        unpack_npm(given, scratch / "npm", _wanted)
        given = scratch / "npm"
    folder = given / "package" if (given / "package").is_dir() else given
    if not (folder / TABLE).is_file():
        raise ArtifactError(f"{given} is not the package openmoji: it has no {TABLE}")
    return folder, Fields(read_json(folder / "package.json"), "package.json").text("version")


def openmoji(folder: Path) -> Iterator[Found]:
    """All emoji but skin tones and flags, in the package's order."""
    for number, value in enumerate(listed(folder / TABLE)):
        fields = Fields(value, f"{folder / TABLE}: row {number}")
        group = fields.text("group")
        if fields.text("skintone", "") or group == "flags":
            continue
        name, code = fields.text("annotation"), fields.text("hexcode")
        drawing = f"{_DRAWINGS}/{code}.svg"
        yield Found(
            path=inside(folder, drawing),
            image=f"openmoji/{code}.jpg",
            caption=name,
            family=family(f"openmoji/{group}/{fields.text('subgroups')}", name),
            category=group,
            source=drawing,
            license=LICENSE,
        )


def _wanted(path: PurePosixPath) -> bool:
    return path.parent.as_posix() == _DRAWINGS or str(path) in (str(TABLE), "package.json")
