"""Every failure a user can cause, and the exit code it ends with.

BlipEdgeError            1   a bug of ours, when nothing below fits
├── UsageError           2   a flag, a value or a recipe key does not make sense
├── ArtifactError        3   a folder or file is missing, or is not what the verb needs
├── MissingExtraError    4   an optional package is not installed
└── ToleranceError       5   the result was measured worse than its tolerance or gate

A message is one line: what is wrong, where, and what to do about it.
"""

from importlib import import_module
from types import ModuleType

__all__ = [
    "ArtifactError",
    "BlipEdgeError",
    "MissingExtraError",
    "ToleranceError",
    "UsageError",
    "import_extra",
]


class BlipEdgeError(Exception):
    """The root of everything this package raises on purpose."""

    exit_code = 1


class UsageError(BlipEdgeError):
    """A flag, a value or a recipe key that does not make sense."""

    exit_code = 2


class ArtifactError(BlipEdgeError):
    """A folder or file that is missing, damaged, or of another kind than needed."""

    exit_code = 3


class MissingExtraError(BlipEdgeError):
    """An optional package that the verb needs is not installed."""

    exit_code = 4


class ToleranceError(BlipEdgeError):
    """A result that was measured and found worse than its tolerance; it is kept to be looked at."""

    exit_code = 5


def import_extra(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra of ours brings it.

    Raises:
        MissingExtraError: `module` is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is there, and something that it needs is not
        raise MissingExtraError(
            f"{module} is not installed; install it with: pip install 'blip-edge[{extra}]'"
        ) from None
