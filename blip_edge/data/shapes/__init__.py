"""The drawn world: scenes that are known to the last pixel, drawn and spoken of.

data = make("data/shapes", ShapesRecipe(train=1000), seed=0)
scenes = read_scenes(data.folder, "test")
judge("a small red circle in the top left", scenes["test/000000.png"]).true
"""

from blip_edge.data.shapes.make import make
from blip_edge.data.shapes.recipe import ShapesRecipe
from blip_edge.data.shapes.scene import Background, Scene, Thing, read_scenes
from blip_edge.data.shapes.truth import Verdict, judge

__all__ = [
    "Background",
    "Scene",
    "ShapesRecipe",
    "Thing",
    "Verdict",
    "judge",
    "make",
    "read_scenes",
]
