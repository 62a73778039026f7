"""Training: one loop, BLIP's objectives, and torch as an engine under the runtime's search."""

from blip_edge.training.recipe import TrainRecipe
from blip_edge.training.stage import train

__all__ = ["TrainRecipe", "train"]
