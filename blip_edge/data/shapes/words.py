"""The words of the drawn world: every value that an attribute can have, easiest first.

A world of `n` colours has the first `n`, so that small worlds have the values furthest apart.
"""

__all__ = [
    "COLOURS",
    "NUMBERS",
    "PLURALS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "TEXTURES",
    "THING",
    "place_name",
    "places",
    "sizes",
]

COLOURS = (
    "red", "green", "blue", "yellow", "purple", "cyan", "black", "pink", "brown", "grey",
)  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross", "star", "ring", "heart", "moon")
SIZES = ("small", "medium", "large")
TEXTURES = ("plain", "striped", "dotted", "checked")
RELATIONS = ("left of", "right of", "above", "below")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

THING = "thing"
"""The noun for any shape."""

PLURALS = {noun: f"{noun}es" if noun == "cross" else f"{noun}s" for noun in (*SHAPES, THING)}

_ROWS = {2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
_COLUMNS = {2: ("left", "right"), 3: ("left", "centre", "right")}


def place_name(row: int, column: int, side: int) -> str:
    """What the cell in `row` and `column` of a picture with `side` x `side` places is called."""
    if side == 3 and row == column == 1:
        return "centre"
    return f"{_ROWS[side][row]} {_COLUMNS[side][column]}"


def places(side: int) -> tuple[str, ...]:
    """The names of all places, row by row."""
    return tuple(place_name(row, column, side) for row in range(side) for column in range(side))


def sizes(number: int) -> tuple[str, ...]:
    """The names of `number` sizes, smallest first: two are small and large."""
    return {1: ("medium",), 2: ("small", "large"), 3: SIZES}[number]
