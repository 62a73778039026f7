"""How good captions are, measured as the captioning field measures it; numpy at most, no Java.

    scores = cider({1: "a dog on a mat"}, {1: ["a dog lies on a mat", "the dog is on its mat"]})
    print(100 * scores.mean)

Every function takes candidates by picture and references by picture, and gives figures in the
metric's own unit. What the product prints and stores is 100 times that, as papers do.
"""

from blip_edge.metrics.bleu import bleu
from blip_edge.metrics.cider import cider
from blip_edge.metrics.ptb import words
from blip_edge.metrics.rouge import rouge_l
from blip_edge.metrics.score import Score

__all__ = ["Score", "bleu", "cider", "rouge_l", "words"]
