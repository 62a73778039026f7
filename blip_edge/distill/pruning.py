"""`prune`: heads, neurons, channels and layers go in several cuts, and the model recovers."""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from blip_edge.distill.cuts import Cuts
from blip_edge.distill.meters import Meter, meter_of
from blip_edge.distill.ranking import choose, choose_evenly
from blip_edge.distill.recipe import PruneRecipe
from blip_edge.distill.spelling import require_spelled
from blip_edge.distill.stage import importance_of, task_of, taught_by, taught_objective, teacher_in
from blip_edge.distill.storing import open_store, storable
from blip_edge.distill.surgery import Keep, cut, everything
from blip_edge.models.folder import Model
from blip_edge.models.token_schedule import tokens_schedule
from blip_edge.models.weights import restore
from blip_edge.progress import SILENT, Progress
from blip_edge.training import processes
from blip_edge.training.course import total_steps
from blip_edge.training.loop import fit
from blip_edge.training.processes import Device
from blip_edge.training.source import Source
from blip_edge.training.tasks import batches_of
from blip_edge.training.work import Begun, Work, carry_out, course_of

__all__ = ["kept_after", "prune"]


def prune(
    model: Path,
    data: Path | str,
    output: Path,
    recipe: PruneRecipe,
    *,
    store: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    force: bool = False,
    device: Device = "auto",
    log_dir: Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Cut what matters least for what it costs, train in between, and recover at the end.

    The whole model is the teacher of what is left of it. The result is smaller for real, and
    computes exactly what the model would with the lost units silenced; only tokens are merged by
    the heads that stay. A killed run that is resumed makes the same cuts again, and goes on from
    its last checkpoint.

    Args:
        model: a MODEL; it stays as it is.
        data: a dataset folder.
        output: the MODEL folder to write.
        recipe: how much stays, of what, and how the rest learns.
        store: a folder where all that the model tells is kept, as for `distill`, which may share
            it; between the cuts the model is asked all the same.
        resume: go on with a run that was killed.
        seed: of the rows' order.
        force: replace `output` if it is there.
        device: what kind of device it is trained on after the last cut.
        log_dir: where curves are written for TensorBoard.
        progress: is told how far it is.

    Raises:
        ArtifactError: `model` is no model, or `data` no data set or without the task's rows, or
            with too many words that the model cannot spell. The store is of something else,
            damaged, or cannot be written.
        UsageError: nothing small enough can be cut out of the model, or the recipe has losses that
            no store holds anything for.
        MissingExtraError: latency is to be saved, and onnx is not there to measure it.
    """

    if store is not None:
        recipe = storable(recipe)

    def begin(source: Source, progress: Progress) -> Begun:
        require_spelled(source, whole.tokenizer, work, progress)
        kept = None
        if store is not None:
            parents = {"teacher": model, "vocabulary": None}
            kept = open_store(store, parents, source, recipe, training, seed=seed)
        pruned, keep, steps = _Rounds(whole, source, work, progress).run()
        begun = taught_by(whole, pruned, keep, source, work, progress, store=kept)
        return replace(begun, steps=steps)

    whole = teacher_in(model)
    training = recipe.of(task_of(whole), whole.generation.prompt)
    work = Work(
        verb="prune",
        data=data,
        output=output,
        recipe=recipe,
        training=training,
        parents=(model,),
        resume=resume,
        seed=seed,
        force=force,
        device=device,
        log_dir=log_dir,
        progress=progress,
    )
    carry_out(work, begin)
    Cuts.clear(work)
    return output


def kept_after(keep: float, done: int, rounds: int) -> float:
    """Share that is left after `done` of `rounds` cuts: 1 - (1 - keep) (1 - cos(π done/rounds))/2.

    A half cosine: few go first and last, most in between. UPop (arXiv 2301.13741, section 3.3)
    goes gradually, too, but its code takes the square root of that half cosine: most goes at first.
    """
    return 1.0 - (1.0 - keep) * (1.0 - math.cos(math.pi * done / rounds)) / 2.0


class _Rounds:
    """Cuts, with training between them."""

    def __init__(self, whole: Model, source: Source, work: Work, progress: Progress) -> None:
        assert isinstance(work.recipe, PruneRecipe)
        self._whole, self._source, self._work = whole, source, work
        self._recipe: PruneRecipe = work.recipe
        self._progress = progress
        self._cuts = Cuts(work, source)
        self._batches = batches_of(source, whole, work.training, seed=work.seed)
        self._stream: Iterator[Any] = iter(self._batches)

    def run(self) -> tuple[Model, Keep, int]:
        """What is left, as which parts of the whole, and how many steps are left to train."""
        recipe, beams = self._recipe, self._whole.generation.num_beams
        meter = meter_of(recipe.per, beams)
        merged = self._with_fewer_tokens()
        start = meter(merged.config)
        model, keep = merged, everything(merged.blip)
        total = total_steps(recipe, self._batches.per_epoch, recipe.accumulate)
        # At least one step is left for the end: 0 would mean as many as the recipe says.
        between = min(round(total * recipe.rounds_share), total - 1) // max(1, recipe.rounds - 1)
        rounds = 1 if recipe.keep == 1 else recipe.rounds
        made = self._cuts.read()
        for done in range(1, rounds + 1):
            share = kept_after(recipe.keep, done, rounds)
            targets = [share * start]
            if done == 1:  # what will not do in the end is refused before anything is trained
                targets.append(kept_after(recipe.keep, rounds, rounds) * start)
            inner = self._choice(model, meter, targets, made[done - 1 : done])
            made[done - 1 : done] = [inner]
            model, keep = model.with_blip(cut(model.blip, inner)), inner.of(keep)
            self._progress.say(f"cut to {meter(model.config) / start:.1%} of its {recipe.per}")
            if done < rounds and between:
                self._recover(model, keep, between, done)
                total -= between
        self._cuts.keep(made)
        return model, keep, total

    def _choice(self, model: Model, meter: Meter, targets: list[float], made: list[Keep]) -> Keep:
        """What stays for the first of `targets`, all of which must be possible.

        It is what a run that is resumed `made` of it, or what matters most.
        """
        recipe = self._recipe
        if recipe.keep == 1:
            return everything(model.blip)
        seen = islice(self._stream, recipe.calibration)
        importance = importance_of(model, self._work.training, seen, recipe)
        if made:  # after the scores, which take their share of batches and of random numbers
            return made[0]
        select = choose_evenly if recipe.even else choose
        # A latency is another one each time that it is measured: one process decides.
        keeps = [
            select(model.config, importance, meter, target, widths=recipe.widths)
            for target in targets
        ]
        return processes.first(keeps[0])

    def _recover(self, model: Model, keep: Keep, steps: int, done: int) -> None:
        recipe, training = self._recipe, self._work.training
        fit(
            model.blip,
            taught_objective(self._whole, model, keep, recipe, training),
            islice(self._stream, steps * recipe.accumulate),
            replace(recipe, warmup=min(recipe.warmup, steps // 4)),
            steps=steps,
            description=f"prune {done} of {recipe.rounds}",
            progress=self._progress,
            course=replace(course_of(training, self._batches.per_epoch), schedule="constant"),
        )

    def _with_fewer_tokens(self) -> Model:
        """The whole model, whose image tower merges tokens if it is to."""
        model, vision = self._whole, self._whole.config.vision_config
        if self._recipe.tokens == 1:
            return model.with_blip(deepcopy(model.blip))
        kept = tokens_schedule(vision.num_tokens, vision.num_hidden_layers, self._recipe.tokens)
        config = replace(model.config, vision_config=replace(vision, tokens_kept=kept))
        weights = {name: one.detach().clone() for name, one in model.blip.named_parameters()}
        return model.with_blip(restore(config, weights, source="the model whose tokens are merged"))
