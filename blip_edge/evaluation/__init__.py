"""How good a model or a bundle is at a task, measured by the same code for both.

found = evaluate("runs/small", "data/coco", split="test")
print(found.metrics["CIDEr"])          # 133.3: a hundred times the metric's own unit
write_results(found, "results.json")
score_predictions("results.json", "data/coco").metrics == found.metrics  # if none was skipped

with_intervals = evaluate("runs/small", "data/coco", how=EvalSettings(ci=Bootstrap()))
print(with_intervals.intervals["CIDEr"])
"""

from blip_edge.evaluation.album import Skipped
from blip_edge.evaluation.caption import Captioner, evaluate_captions
from blip_edge.evaluation.crew import ALONE, Crew
from blip_edge.evaluation.predictions import score_predictions
from blip_edge.evaluation.references import CaptionSet, Sample
from blip_edge.evaluation.result import TASKS, EvalSettings, Evaluation
from blip_edge.evaluation.results_file import check_results_file, write_results
from blip_edge.evaluation.stage import evaluate, evaluate_loaded
from blip_edge.metrics import Bootstrap

__all__ = [
    "ALONE",
    "TASKS",
    "Bootstrap",
    "CaptionSet",
    "Captioner",
    "Crew",
    "EvalSettings",
    "Evaluation",
    "Sample",
    "Skipped",
    "check_results_file",
    "evaluate",
    "evaluate_captions",
    "evaluate_loaded",
    "score_predictions",
    "write_results",
]
