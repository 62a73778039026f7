"""Official downloads of data sets to DATA folders."""

from blip_edge.data.prepare.sets import SETS, Name
from blip_edge.data.prepare.stage import prepare

__all__ = ["SETS", "Name", "prepare"]
