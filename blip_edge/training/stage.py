"""`train`: a data set, and perhaps a model to start from, to a MODEL folder."""

import dataclasses
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from blip_edge import __version__
from blip_edge.artifact import Provenance, sha256_folder, write_provenance, writing
from blip_edge.data.dataset import Dataset
from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.models.blip import Blip, build
from blip_edge.models.config import Architecture, BlipConfig, TextConfig, VisionConfig
from blip_edge.models.folder import Model, load_model, save_model
from blip_edge.preprocess import Preprocess
from blip_edge.progress import SILENT, Progress
from blip_edge.text import Tokenizer, clean_caption
from blip_edge.training.batches import CaptionBatches
from blip_edge.training.loop import fit, total_steps
from blip_edge.training.objectives import CaptionObjective, Objective, PretrainObjective
from blip_edge.training.recipe import Optimisation, TrainRecipe

__all__ = ["batches_for", "provenance", "train"]

_MAX_TOKENS = 40
"""BLIP cuts captions after so many tokens, prompt included (its captioning recipe)."""


def train(
    data: Path,
    output: Path,
    recipe: TrainRecipe,
    *,
    init: Path | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Train a BLIP on the captions of `data` and write it to `output`.

    With `init` the weights, sizes and vocabulary are those of that model; parts that it has and the
    task does not need are left behind, and parts that the task needs must be in it.

    Raises:
        ArtifactError: `data` or `init` is not what it should be, or too many pictures are damaged.
    """
    started = time.monotonic()
    with writing(output, force=force) as draft:
        torch.manual_seed(seed)
        dataset = Dataset.open(data)
        model = _fresh(dataset, recipe) if init is None else _continued(load_model(init), recipe)
        batches = batches_for(dataset, model, recipe, seed=seed, max_words=recipe.max_words)
        objective = _objective(model, recipe)
        history = fit(
            model.blip,
            objective,
            batches,
            recipe,
            steps=total_steps(recipe, batches.per_epoch),
            description=f"train {recipe.task}",
            progress=progress,
        )
        save_model(draft, model)
        batches.report(draft, progress)
        write_provenance(
            draft, provenance("train", recipe, dataset, [init], started, history, seed=seed)
        )
    return output


def batches_for(
    dataset: Dataset, model: Model, recipe: Optimisation, *, seed: int, max_words: int = 30
) -> CaptionBatches:
    """The training rows of `dataset` as `model` reads them; only captioners see the prompt."""
    matches = model.config.architecture != "BlipForConditionalGeneration"
    return CaptionBatches(
        dataset,
        dataset.captions("train"),
        model.tokenizer,
        model.preprocess,
        batch=recipe.batch,
        seed=seed,
        prompt="" if matches else model.generation.prompt,
        max_words=max_words,
        max_length=min(_MAX_TOKENS, model.config.text_config.max_position_embeddings),
        max_bad=recipe.max_bad,
    )


def provenance(
    verb: str,
    recipe: Any,
    dataset: Dataset | None,
    parents: list[Path | None],
    started: float,
    history: list[dict[str, float]],
    *,
    seed: int,
) -> Provenance:
    """Where a model comes from; `started` is a time.monotonic()."""
    return Provenance(
        verb=verb,
        recipe={**asdict(recipe), "seed": seed},
        parents=[{"path": str(p), "sha256": sha256_folder(p)} for p in parents if p is not None],
        data=None if dataset is None else _identity(dataset),
        version=__version__,
        seconds=round(time.monotonic() - started, 2),
        history=history,
    )


def _identity(dataset: Dataset) -> dict[str, Any]:
    items = len(dataset.captions("train"))
    return {"name": dataset.name, "sha256": dataset.digest(), "items": items}


def _fresh(dataset: Dataset, recipe: TrainRecipe) -> Model:
    """A model of the recipe's sizes with a vocabulary learned from the training captions."""
    texts = [clean_caption(row.captions[0]) for row in dataset.captions("train")]
    tokenizer = Tokenizer.train([*texts, recipe.prompt], recipe.vocab_size)
    vision = VisionConfig(
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        hidden_size=recipe.vision_width,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=recipe.vision_heads,
        intermediate_size=4 * recipe.vision_width,
    )
    text = TextConfig(
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=recipe.max_positions,
        hidden_size=recipe.text_width,
        encoder_hidden_size=recipe.vision_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=recipe.text_heads,
        intermediate_size=4 * recipe.text_width,
        hidden_dropout_prob=recipe.dropout,
        attention_probs_dropout_prob=recipe.dropout,
        bos_token_id=tokenizer.dec,
        pad_token_id=tokenizer.pad,
        sep_token_id=tokenizer.sep,
    )
    config = BlipConfig(
        vision_config=vision,
        text_config=text,
        architecture=_architecture(recipe),
        image_text_hidden_size=recipe.embed_dim,
    )
    preprocess = Preprocess(size=recipe.image_size)
    return Model(build(config), tokenizer, preprocess, _generation(tokenizer, recipe))


def _continued(start: Model, recipe: TrainRecipe) -> Model:
    """`start` with the parts that the task needs."""
    config = dataclasses.replace(start.config, architecture=_architecture(recipe))
    blip = Blip(config)
    weights = start.blip.state_dict()
    lacking = sorted({name.split(".")[0] for name in blip.state_dict() if name not in weights})
    if lacking:
        raise ArtifactError(
            f"--init is a {start.config.architecture} without {', '.join(lacking)}; "
            f"{recipe.task} needs them: start from a pre-trained model"
        )
    blip.load_state_dict({name: weights[name] for name in blip.state_dict()})
    return Model(blip, start.tokenizer, start.preprocess, _generation(start.tokenizer, recipe))


def _architecture(recipe: TrainRecipe) -> Architecture:
    return "BlipForPreTraining" if recipe.task == "pretrain" else "BlipForConditionalGeneration"


def _generation(tokenizer: Tokenizer, recipe: TrainRecipe) -> Generation:
    return Generation(
        bos_token_id=tokenizer.dec,
        eos_token_id=tokenizer.sep,
        pad_token_id=tokenizer.pad,
        num_beams=recipe.num_beams,
        min_length=recipe.min_length,
        max_length=recipe.max_length,
        prompt=recipe.prompt,
    )


def _objective(model: Model, recipe: TrainRecipe) -> Objective:
    kind = PretrainObjective if recipe.task == "pretrain" else CaptionObjective
    return kind(model.blip, model.tokenizer, recipe)
