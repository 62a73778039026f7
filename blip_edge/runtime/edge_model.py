"""A BLIP as a program meets it: pictures in, words and numbers out, whatever runs underneath."""

from blip_edge.runtime.answering import Answering
from blip_edge.runtime.captioning import Captioning
from blip_edge.runtime.matching import Matching
from blip_edge.runtime.reasoning import Reasoning

__all__ = ["EdgeModel"]


class EdgeModel(Captioning, Answering, Matching, Reasoning):
    """A model folder or a bundle, opened.

    What it was not trained for raises an ArtifactError that says what it was trained for. Any
    number of threads may ask it; they take turns, picture by picture or batch by batch. Models that
    were loaded separately do not wait for each other.
    """
