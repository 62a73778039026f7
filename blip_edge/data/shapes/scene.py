"""A scene of the drawn world: what is where, before anything is drawn or said.

A picture is divided into a square of places; a thing lies wholly inside its place, and no two
things share one. So nothing hides anything, sizes are comparable, and "left of" is never a matter
of opinion: it is only said of things in different columns.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from blip_edge.artifact import read_json
from blip_edge.data.shapes.words import place_name
from blip_edge.errors import ArtifactError

__all__ = ["Background", "Scene", "Thing", "read_scenes", "related"]

Rgb = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One drawn thing. `x`, `y` (its middle) and `radius` are shares of the picture's side."""

    shape: str
    colour: str
    size: str
    texture: str
    row: int
    column: int
    x: float
    y: float
    radius: float
    rgb: Rgb


@dataclass(frozen=True, kw_only=True)
class Background:
    """What lies behind: one colour, or two that blend or alternate."""

    kind: Literal["flat", "gradient", "checker"]
    first: Rgb
    second: Rgb


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Things on a background, in a picture of `side` x `side` places."""

    things: tuple[Thing, ...]
    background: Background
    side: int

    def place(self, thing: Thing) -> str:
        """The name of the place where `thing` is."""
        return place_name(thing.row, thing.column, self.side)

    def to_json(self) -> dict[str, Any]:
        """The scene as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Scene":
        """The scene that `to_json` wrote. Other values end in KeyError, TypeError or ValueError."""
        things = tuple(Thing(**{**thing, "rgb": tuple(thing["rgb"])}) for thing in value["things"])
        ground = value["background"]
        first, second = tuple(ground["first"]), tuple(ground["second"])
        background = Background(kind=ground["kind"], first=first, second=second)
        return cls(things=things, background=background, side=int(value["side"]))


def related(first: Thing, relation: str, second: Thing) -> bool:
    """Whether `first` is left of, right of, above or below `second`, beyond doubt."""
    match relation:
        case "left of":
            return first.column < second.column
        case "right of":
            return first.column > second.column
        case "above":
            return first.row < second.row
        case "below":
            return first.row > second.row
    raise ValueError(f"{relation!r} is no relation")


def read_scenes(folder: Path, split: str) -> dict[str, Scene]:
    """The scenes behind a drawn data set's pictures, by the pictures' names.

    Raises:
        ArtifactError: the data set has none for `split`, or they cannot be read.
    """
    path = Path(folder) / f"scenes_{split}.json"
    try:
        return {image: Scene.from_json(value) for image, value in read_json(path).items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} does not hold drawn scenes ({error!r})") from None
