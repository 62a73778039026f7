"""A picture of a package, before it is made."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Found"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where a picture is, what is said of it, and where it goes."""

    path: Path
    image: str
    """Its name in the data set."""
    caption: str
    also: tuple[str, ...] = ()
    """What else is said of it."""
    family: str
    """What it shares with its variants, which go into the same split."""
    category: str
    source: str
    """Its path in the package."""
    license: str
