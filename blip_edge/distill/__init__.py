"""Smaller students: cut out of a teacher, taught by it, and pruned."""

from blip_edge.distill.pruning import prune
from blip_edge.distill.recipe import DistillRecipe, PruneRecipe
from blip_edge.distill.stage import distill

__all__ = ["DistillRecipe", "PruneRecipe", "distill", "prune"]
