"""MODEL folders onto devices: ONNX, OpenVINO, Core ML and Hugging Face, measured before they are
there, and verified again wherever they are.

`verify` and `ExportRecipe` need no torch; `export` is fetched when it is first used.
"""

from typing import TYPE_CHECKING

from blip_edge.exporters.recipe import ExportRecipe

if TYPE_CHECKING:
    from blip_edge.exporters.stage import export
    from blip_edge.exporters.verification import Check, Verification, verify

__all__ = ["Check", "ExportRecipe", "Verification", "export", "verify"]

_HOMES = {
    "Check": "verification",
    "Verification": "verification",
    "export": "stage",
    "verify": "verification",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
