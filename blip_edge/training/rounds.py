"""Bootstrapping in rounds: what one leaves trains the models of the next.

CapFilt's authors name it as future work (arXiv 2201.12086, section 6): a captioner and a filter
that learned from better texts write better ones and know more of what is wrong.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from blip_edge.artifact import begin_run, require_free, sha256_folder
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation.capfilt import RoundsRecipe, capfilt
from blip_edge.progress import SILENT, Progress
from blip_edge.training.processes import Device
from blip_edge.training.recipe import TrainRecipe
from blip_edge.training.stage import train

__all__ = ["Trainings", "bootstrap_in_rounds"]


class Trainings(NamedTuple):
    """How the model between two rounds is made."""

    pretrain: TrainRecipe
    caption: TrainRecipe
    retrieval: TrainRecipe


def bootstrap_in_rounds(
    data: Path,
    output: Path,
    recipe: RoundsRecipe,
    trainings: Trainings,
    *,
    captioners: Sequence[Path] = (),
    filters: Sequence[Path] = (),
    resume: bool = False,
    seed: int = 0,
    force: bool = False,
    device: Device = "auto",
    progress: Progress = SILENT,
    **how: Any,
) -> Path:
    """Bootstrap the web texts of `data` again and again; `output` is what the last round leaves.

    Every round writes anew for the same pictures and judges the web's own texts again. Between two
    a model is pre-trained on what is left and people's pairs, from nothing, and tuned on people's
    pairs for each part that the first round had models for. Texts and models of all rounds but the
    last stay in `OUT.rounds`.

    Args:
        data: a data set with `web_train.json` and people's `caption_train.json`.
        output: as of `capfilt`.
        recipe: how texts are written and judged, and how many rounds.
        trainings: how the model between two rounds is trained and tuned.
        captioners: models or bundles that write in the first round.
        filters: those that judge in it.
        resume: go on with a run that was killed, where it was.
        seed: of the words that are drawn and of all training.
        force: replace `output` if it is there, and forget a killed run.
        device: what models are trained on.
        progress: is told how far it is.
        how: `processes`, `ray` and `threads` of `capfilt`.

    Raises:
        UsageError: `data` is tars, which have no pairs of people's to tune on, or a training is
            for another task than its place asks.
        ArtifactError: as of `capfilt` and `train`, or another run's rounds.
    """
    _require_tasks(trainings)
    if ".tar" in str(data) and not Path(data).is_dir():
        raise UsageError("rounds above 1 need a data set: people's pairs tune the models between")
    if not Dataset.open(data).has("caption_train.json"):
        raise ArtifactError(
            f"{data} has no caption_train.json; models between rounds learn from it"
        )
    require_free(output, force=force, reads=(data, *captioners, *filters))
    folder = Path(output).with_name(f"{Path(output).name}.rounds")
    if force and not resume and (folder / "run.json").is_file():
        shutil.rmtree(folder)
    identity = _identity(Path(data), [*captioners, *filters], recipe, trainings, seed)
    begin_run(folder, identity, resume=resume)
    told: dict[str, Any] = {"seed": seed, "progress": progress}

    def bootstrap(number: int, texts: Path, **also: Any) -> Path:
        progress.say(f"round {number + 1} of {recipe.rounds}")
        also |= {"captioners": writers, "filters": judges, "resume": resume}
        return capfilt(data, texts, recipe.of_round(number), **also, **told, **how)

    writers, judges = captioners, filters
    try:
        for number in range(recipe.rounds - 1):
            texts = folder / f"texts-{number + 1}"
            if not texts.exists():
                bootstrap(number, texts)
            tasks = ["caption"] * bool(writers) + ["retrieval"] * bool(judges)
            found = folder / f"models-{number + 1}"
            learned = _learn(texts, found, trainings, tasks, device=device, **told)
            writers, judges = learned.get("caption", ()), learned.get("retrieval", ())
    except BaseException:
        if {path.name for path in folder.iterdir()} == {"run.json"}:
            shutil.rmtree(folder)  # there is nothing to go on with
        raise
    return bootstrap(recipe.rounds - 1, output, force=force)


def _learn(
    texts: Path, models: Path, trainings: Trainings, tasks: Sequence[str], **how: Any
) -> dict[str, list[Path]]:
    """The models of the next round: one pre-trained on `texts`, tuned for each of `tasks`."""
    models.mkdir(exist_ok=True)
    begun = train(texts, models / "pretrain", trainings.pretrain, resume=True, **how)
    how |= {"init": begun, "resume": True}
    return {task: [train(texts, models / task, getattr(trainings, task), **how)] for task in tasks}


def _require_tasks(trainings: Trainings) -> None:
    for task, training in trainings._asdict().items():
        if training.task != task:
            raise UsageError(f"{task} needs a recipe of that task, not of {training.task}")


def _identity(
    data: Path, models: Sequence[Path], recipe: RoundsRecipe, trainings: Trainings, seed: int
) -> dict[str, Any]:
    """What makes a run this one; how much may be bad does not."""
    return {
        "data": Dataset.open(data).digest(),
        "recipe": {key: value for key, value in asdict(recipe).items() if key != "max_bad"},
        "trainings": {task: asdict(training) for task, training in trainings._asdict().items()},
        "models": [sha256_folder(model) for model in models],
        "seed": seed,
    }
