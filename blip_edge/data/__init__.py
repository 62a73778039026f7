"""Data sets: folders of pictures with BLIP's own annotation files, and the drawn world."""

from blip_edge.data.check import BadRow, CheckReport, check, check_shards
from blip_edge.data.dataset import Dataset
from blip_edge.data.rows import (
    Box,
    CaptionRow,
    ClipQuestionRow,
    ClipRow,
    Dialog,
    QueryRow,
    QuestionRow,
    Round,
    SentenceRow,
)

__all__ = [
    "BadRow",
    "Box",
    "CaptionRow",
    "CheckReport",
    "ClipQuestionRow",
    "ClipRow",
    "Dataset",
    "Dialog",
    "QueryRow",
    "QuestionRow",
    "Round",
    "SentenceRow",
    "check",
    "check_shards",
]
