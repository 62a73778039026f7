"""What retrieval in a drawn world can have at most, in percent: its pictures share texts.

A text that fits several pictures belongs to one of them. The metric counts equal texts of other
pictures as found before one's own, as it must count whatever scores the same; and of the pictures
that a text fits none is nearer than another, so that chance orders these.
"""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from blip_edge.data import Dataset
from blip_edge.metrics import recalls

__all__ = ["most"]

_K = (1, 5, 10)


def most(data: Path) -> dict[str, float]:
    """`txt_r1`, `img_r1` and `r_mean` of a search that finds all that fits, and nothing before."""
    own = [Counter(row.captions) for row in Dataset.open(data).retrieval("test")]
    rows: Counter[str] = Counter()
    shown: defaultdict[str, int] = defaultdict(int)
    for texts in own:
        rows += texts
        for text in texts:
            shown[text] += 1
    places = [1 + min(rows[text] - mine for text, mine in texts.items()) for texts in own]
    by_image = recalls(places, "txt")
    pictures = np.asarray([shown[text] for texts in own for text in texts.elements()])
    by_text = [float(np.mean(np.minimum(k, pictures) / pictures)) for k in _K]
    return {
        "txt_r1": 100 * by_image["txt_r1"],
        "img_r1": 100 * by_text[0],
        "r_mean": 100 * (by_image["txt_r_mean"] + float(np.mean(by_text))) / 2,
    }
