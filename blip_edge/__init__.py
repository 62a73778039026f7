"""BLIP on edge devices.

`load(folder)` opens a model folder or an exported bundle for captioning. Importing this package
alone imports neither numpy nor torch; `load` is fetched when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blip_edge.runtime.load import load

__all__ = ["__version__", "load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "load":
        return import_module("blip_edge.runtime.load").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
