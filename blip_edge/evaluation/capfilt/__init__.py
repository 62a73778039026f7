"""CapFilt: a captioner writes texts for web pictures, a filter throws out those that do not fit.

    capfilt(Path("data/web"), Path("data/clean"), captioners=[Path("int8/caption")],
            filters=[Path("int8/retrieval")])

Source: BLIP (arXiv 2201.12086), section 3.3, and what its section 6 leaves to others: several
captions a picture, several captioners and filters, several rounds. Models and bundles serve alike.
"""

from blip_edge.evaluation.capfilt.recipe import CapfiltRecipe, RoundsRecipe
from blip_edge.evaluation.capfilt.stage import capfilt

__all__ = ["CapfiltRecipe", "RoundsRecipe", "capfilt"]
