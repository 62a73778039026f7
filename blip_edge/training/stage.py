"""`train`: a data set, and perhaps a model to start from, to a MODEL folder."""

from collections.abc import Sequence
from pathlib import Path

from blip_edge.progress import SILENT, Progress
from blip_edge.training.processes import Device
from blip_edge.training.recipe import TrainRecipe
from blip_edge.training.source import Source
from blip_edge.training.start import Start
from blip_edge.training.tasks import objective_of
from blip_edge.training.work import Begun, Work, carry_out

__all__ = ["train"]


def train(
    data: Path | str,
    output: Path,
    recipe: TrainRecipe,
    *,
    web: Sequence[str] = (),
    init: Path | None = None,
    vision_init: Path | None = None,
    text_init: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    force: bool = False,
    device: Device = "auto",
    log_dir: Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Train a BLIP on `data` for the recipe's task and write it to `output`.

    Under `torchrun` each process takes a share of every epoch's rows, `recipe.batch` of them at a
    time, and the first one writes.

    Args:
        data: a dataset folder; or, where pairs are learned from, the names of WebDataset tars.
        output: the MODEL folder to write; checkpoints are kept beside it, in `OUT.checkpoints`,
            until it is there.
        recipe: task, sizes and how long.
        web: names of tars whose pairs are learned from beside the folder's; `{000..127}` in a name
            stands for numbers.
        init: a MODEL whose weights, sizes and vocabulary are taken; parts that it has and the task
            does not need are left behind, and parts that the task needs must be in it.
        vision_init: a file with a pretrained ViT, instead of a fresh image tower.
        text_init: a folder with a pretrained BERT and its vocabulary, instead of fresh text towers.
        resume: go on with a run that was killed, from its last checkpoint; with nothing there it
            begins, and a finished one of the same recipe is left as it is.
        seed: of fresh weights, of the rows' order and of dropout.
        force: replace `output` if it is there, and forget a killed run's checkpoints.
        device: what kind of device it is trained on; auto is the fastest there is.
        log_dir: where losses, metric, learning rate and speed are written for TensorBoard.
        progress: is told what towers leave behind and what is fresh, and how far training is.

    Raises:
        UsageError: `init` together with a tower; a run of another recipe to resume; tars for a task
            that reads no pairs; a device that is not there.
        ArtifactError: `data` or what is started from is not what it should be, or too many pictures
            are damaged.
    """
    start = Start(init, vision_init, text_init)

    def begin(source: Source, progress: Progress) -> Begun:
        model = start.model(source.texts(), recipe, progress)
        return Begun(model, lambda: objective_of(model, recipe))

    work = Work(
        verb="train",
        data=data,
        output=output,
        recipe=recipe,
        training=recipe,
        web=web,
        parents=(init, vision_init, text_init),
        resume=resume,
        seed=seed,
        force=force,
        device=device,
        log_dir=log_dir,
        progress=progress,
    )
    return carry_out(work, begin)
