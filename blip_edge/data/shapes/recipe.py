"""How big, how varied and how hard the drawn world is.

The defaults are the general world: several things a picture, with relations, counts and textures.
`objects=1 textures=1 sizes=2 places=2 backgrounds=1 image_size=48` is the easy one, whose short
captions a model of a million weights learns in minutes.
"""

from dataclasses import dataclass

from blip_edge.data.shapes.words import COLOURS, SHAPES, SIZES, TEXTURES

__all__ = ["ShapesRecipe"]


@dataclass(frozen=True, kw_only=True)
class ShapesRecipe:
    """A world of drawn scenes, and how many pictures, questions and pairs are made of it."""

    train: int = 4000
    """Pictures with human-like captions to train on; five captions each."""

    val: int = 500
    """Pictures to choose checkpoints with."""

    test: int = 500
    """Pictures to measure with: unseen scenes of the colours and shapes that were seen together."""

    unseen: int = 500
    """Pictures of the split `test_unseen`: colours on shapes that no other split shows together."""

    web: int = 2000
    """More pictures, whose captions are like those found on the web: partly wrong."""

    web_noise: float = 0.4
    """Share of the web captions that are wrong or vague."""

    objects: int = 3
    """The most things in one picture; with 1 the captions follow three short templates."""

    colours: int = 8
    """Number of colours, from 2 to 10."""

    shapes: int = 6
    """Number of shapes, from 2 to 8."""

    sizes: int = 3
    """Number of sizes: 1 (not spoken of), 2 (small, large) or 3 (medium too)."""

    textures: int = 3
    """Number of textures, from 1 (all plain, not spoken of) to 4."""

    places: int = 3
    """Places a side: 2 (top, bottom; left, right) or 3 (middle and centre too)."""

    backgrounds: int = 3
    """Kinds of background: 1 (flat), 2 (gradients too) or 3 (checkers too)."""

    image_size: int = 96
    """Side of a picture in pixels."""

    noise: float = 0.03
    """Standard deviation of the noise on every pixel, as a share of full brightness."""

    questions: int = 3
    """Questions a picture, with ten answers each."""

    sentences: int = 1
    """Sentences a picture about two pictures; each is shown with a true and with a false pair."""

    dialogs: int = 100
    """Pictures of each split that have a dialogue of ten rounds with 100 answer options."""

    clips: int = 60
    """Short clips in which one thing moves."""

    frames: int = 12
    """Frames a clip."""

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float | None]] = {
            "places": (2, 3),
            "objects": (1, self.places**2),
            "colours": (2, len(COLOURS)),
            "shapes": (2, len(SHAPES)),
            "sizes": (1, len(SIZES)),
            "textures": (1, len(TEXTURES)),
            "backgrounds": (1, 3),
            "image_size": (24, 1024),
            "noise": (0, 0.2),
            "web_noise": (0, 1),
            "questions": (0, 20),
            "sentences": (0, 20),
            "frames": (2, 200),
            **dict.fromkeys(("train", "val", "test"), (1, None)),
            **dict.fromkeys(("unseen", "web", "dialogs", "clips"), (0, None)),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value < low or (high is not None and value > high):
                allowed = f"at least {low}" if high is None else f"between {low} and {high}"
                raise ValueError(f"{name} must be {allowed}, got {value}")

    @property
    def held_out(self) -> int:
        """Pairs of a colour and a shape that only `test_unseen` shows."""
        return max(1, min(self.colours, self.shapes, self.colours * self.shapes // 6))
