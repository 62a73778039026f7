"""How good a model or a bundle is at a task, measured by the same code for both.

found = evaluate("runs/small", "data/coco", split="test")
print(found.metrics["CIDEr"])          # 133.3: a hundred times the metric's own unit
score_predictions("results.json", "data/coco").metrics == found.metrics
"""

from blip_edge.evaluation.album import Skipped
from blip_edge.evaluation.caption import Captioner, evaluate_captions
from blip_edge.evaluation.predictions import score_predictions
from blip_edge.evaluation.references import CaptionSet, Sample
from blip_edge.evaluation.result import TASKS, EvalSettings, Evaluation
from blip_edge.evaluation.stage import evaluate, evaluate_loaded

__all__ = [
    "TASKS",
    "CaptionSet",
    "Captioner",
    "EvalSettings",
    "Evaluation",
    "Sample",
    "Skipped",
    "evaluate",
    "evaluate_captions",
    "evaluate_loaded",
    "score_predictions",
]
