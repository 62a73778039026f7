"""Rows of a data set as batches of tensors, a task a file; `rows` has what all tasks share."""

from blip_edge.training.batches.caption import CaptionBatches
from blip_edge.training.batches.dialog import DialogBatches
from blip_edge.training.batches.feed import Feed
from blip_edge.training.batches.nlvr2 import Nlvr2Batches
from blip_edge.training.batches.rows import Feeding, RowBatches
from blip_edge.training.batches.step import (
    Batch,
    DialogBatch,
    Nlvr2Batch,
    Step,
    VqaBatch,
    started,
)
from blip_edge.training.batches.stream import Web
from blip_edge.training.batches.vqa import VqaBatches

__all__ = [
    "Batch",
    "CaptionBatches",
    "DialogBatch",
    "DialogBatches",
    "Feed",
    "Feeding",
    "Nlvr2Batch",
    "Nlvr2Batches",
    "RowBatches",
    "Step",
    "VqaBatch",
    "VqaBatches",
    "Web",
    "started",
]
