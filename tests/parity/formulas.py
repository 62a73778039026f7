"""BLIP's objectives written out from their formulas: one row, one pair, one token at a time.

Nothing is batched, padded, stacked or cached. A row is its picture's number, its pixels and its ids
from [CLS] to [SEP].
"""

from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blip_edge.models import Blip
from blip_edge.text import Tokenizer

__all__ = [
    "Memory",
    "Row",
    "dialog",
    "itc",
    "itm",
    "lm",
    "nlvr2",
    "remember",
    "slower",
    "views",
]


@dataclass(frozen=True)
class Row:
    """A picture and a text of it."""

    picture: int
    pixels: Tensor  # (3, S, S)
    ids: list[int]


Feature = tuple[tuple[Tensor, Tensor], int]
"""The views (E,) of a picture and of its text, and the picture's number."""


@dataclass
class Memory:
    """A queue of at most `size` features; the oldest is replaced."""

    items: list[Feature]
    oldest: int = 0
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.size = len(self.items)


def remember(memory: Memory, features: list[Feature]) -> None:
    """Put features into the queue, one after another."""
    for feature in features:
        memory.items[memory.oldest] = feature
        memory.oldest = (memory.oldest + 1) % memory.size


def slower(slow: Blip, blip: Blip, momentum: float) -> Blip:
    """m · slow + (1 - m) · blip, parameter by parameter."""
    made = deepcopy(slow)
    theirs = dict(blip.named_parameters())
    with torch.no_grad():
        for name, mine in made.named_parameters():
            mine.copy_(momentum * mine + (1 - momentum) * theirs[name])
    return made


def image_tokens(blip: Blip, row: Row) -> Tensor:
    """(1, N, D)."""
    tokens: Tensor = blip.vision_model(row.pixels[None])
    return tokens


def views(blip: Blip, row: Row) -> tuple[Tensor, Tensor]:
    """Unit vectors (E,) of the picture and of the text."""
    ids = torch.tensor([row.ids])
    image = blip.vision_proj(image_tokens(blip, row)[0, 0])
    text = blip.text_proj(blip.encoder(ids)[0][0, 0])
    return image / image.square().sum().sqrt(), text / text.square().sum().sqrt()


def log_softmax(scores: list[Tensor]) -> list[Tensor]:
    """s_j - log sum_k exp(s_k)."""
    highest = max(score.item() for score in scores)
    total = torch.zeros_like(scores[0])
    for score in scores:
        total = total + (score - highest).exp()
    return [score - highest - total.log() for score in scores]


def itc(
    blip: Blip, slow: Blip, rows: list[Row], memory: Memory, alpha: float, *, by_picture: bool
) -> Tensor:
    """-1/2B sum over rows and directions of sum_j y_ij log p_ij, p against slow features.

    y = alpha · softmax of the slow features' similarities + (1 - alpha) · (1 for what belongs
    together, divided by how much of it there is).
    """
    mine = [views(blip, row) for row in rows]
    with torch.no_grad():
        theirs = [(views(slow, row), row.picture) for row in rows]
    candidates = theirs + memory.items
    total = torch.zeros((), dtype=blip.temp.dtype)
    for i, row in enumerate(rows):
        together = [j == i for j in range(len(candidates))]
        if by_picture:
            together = [number == row.picture for _, number in candidates]
        for kind in (0, 1):  # a picture against texts, a text against pictures
            there = [seen[1 - kind] for seen, _ in candidates]
            log_p = log_softmax([(mine[i][kind] * c).sum() / blip.temp for c in there])
            slowly, temperature = theirs[i][0][kind], blip.temp.item()
            log_q = log_softmax([(slowly * c).sum() / temperature for c in there])
            for right, p, q in zip(together, log_p, log_q, strict=True):
                y = alpha * q.exp() + (1 - alpha) * right / sum(together)
                total = total - y * p / (2 * len(rows))
    return total


def may_be_wrong(row: Row, other: Row) -> bool:
    """Neither of one picture nor of one text."""
    return row.picture != other.picture and row.ids != other.ids


def wrong_partner(rows: list[Row], i: int, similarity: list[float]) -> int | None:
    """The one that looks most right of those that are wrong, if any is."""
    wrong = [j for j, other in enumerate(rows) if may_be_wrong(rows[i], other)]
    return max(wrong, key=lambda j: similarity[j]) if wrong else None


def itm(
    blip: Blip, rows: list[Row], texts: list[Tensor], images: list[Tensor], words: Tokenizer
) -> Tensor:
    """Mean cross-entropy of right pairs (1), and of wrong texts and wrong pictures (0).

    A picture looks for its wrong text among `texts`, a text for its picture among `images`.
    """
    pairs = [(row, row, 1) for row in rows]
    with torch.no_grad():
        for i, row in enumerate(rows):
            image, text = views(blip, row)
            j = wrong_partner(rows, i, [(image * other).sum().item() for other in texts])
            k = wrong_partner(rows, i, [(text * other).sum().item() for other in images])
            pairs += [] if j is None else [(row, rows[j], 0)]
            pairs += [] if k is None else [(rows[k], row, 0)]
    total = torch.zeros((), dtype=blip.temp.dtype)
    for picture, text_of, label in pairs:
        ids = torch.tensor([[words.enc, *text_of.ids[1:]]])
        cross = blip.encoder.cross(image_tokens(blip, picture))
        state = blip.encoder(ids, None, cross)[0][0, 0]
        scores = blip.itm_head(state)
        total = total - log_softmax(list(scores))[label]
    return total / len(pairs)


def lm(blip: Blip, rows: list[Row], words: Tokenizer, smoothing: float) -> Tensor:
    """-mean_t (1 - e) · log p(token_t | those before it, picture) + e · mean_v log p(v | …)."""
    total, count = torch.zeros((), dtype=blip.temp.dtype), 0
    for row in rows:
        cross = blip.decoder.bert.cross(image_tokens(blip, row))
        for place in range(1, len(row.ids)):
            before = torch.tensor([[words.dec, *row.ids[1:place]]])
            log_p = blip.decoder(before, cross)[0][0, -1].log_softmax(-1)
            total = total - (1 - smoothing) * log_p[row.ids[place]] - smoothing * log_p.mean()
            count += 1
    return total / count


def nlvr2(blip: Blip, left: list[Row], right: list[Row], labels: list[int], enc: int) -> Tensor:
    """-mean log p(label | left picture, right picture, sentence); the left rows have the texts."""
    total = torch.zeros((), dtype=left[0].pixels.dtype)
    for one, other, label in zip(left, right, labels, strict=True):
        cross = blip.encoder.twin_cross(image_tokens(blip, one), image_tokens(blip, other))
        state = blip.encoder(torch.tensor([[enc, *one.ids[1:]]]), None, cross)[0][0, 0]
        total = total - log_softmax(list(blip.cls_head(state)))[label]
    return total / len(labels)


def dialog(
    blip: Blip, rows: list[Row], texts: list[list[list[int]]], truth: list[int], enc: int
) -> Tensor:
    """-mean log p(right or wrong | picture, caption, text), over all texts of all pictures.

    `truth` says which of a picture's texts has the true answer; a row's text is its caption.
    """
    total, count = torch.zeros((), dtype=blip.temp.dtype), 0
    for row, candidates, true in zip(rows, texts, truth, strict=True):
        caption = blip.encoder(torch.tensor([row.ids]))[0]
        cross = blip.encoder.cross(torch.cat([caption, image_tokens(blip, row)], dim=1))
        for number, ids in enumerate(candidates):
            state = blip.encoder(torch.tensor([[enc, *ids[1:]]]), None, cross)[0][0, 0]
            total = total - log_softmax(list(blip.itm_head(state)))[int(number == true)]
            count += 1
    return total / count
