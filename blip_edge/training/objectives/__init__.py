"""What is minimised for each task: a batch in, named losses out; their sum is trained on.

The one loop in `loop` calls an objective once a step and knows nothing else of the task. On several
processes each has its own batch, and gradients are averaged over them; where a loss then differs
from that of one process with all batches, its objective says so.
"""

from blip_edge.training.objectives.caption import CaptionObjective, caption_labels
from blip_edge.training.objectives.dialog import DialogObjective
from blip_edge.training.objectives.nlvr2 import Nlvr2Objective
from blip_edge.training.objectives.objective import Objective, Said, TaughtObjective
from blip_edge.training.objectives.pretrain import PretrainObjective
from blip_edge.training.objectives.retrieval import RetrievalObjective
from blip_edge.training.objectives.vqa import VqaObjective

__all__ = [
    "CaptionObjective",
    "DialogObjective",
    "Nlvr2Objective",
    "Objective",
    "PretrainObjective",
    "RetrievalObjective",
    "Said",
    "TaughtObjective",
    "VqaObjective",
    "caption_labels",
]
