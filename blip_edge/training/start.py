"""What training starts from: nothing, pretrained towers, or a whole model."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from blip_edge.errors import ArtifactError, UsageError
from blip_edge.generation import Generation
from blip_edge.models.blip import build
from blip_edge.models.config import ARCHITECTURES, BlipConfig, TextConfig, VisionConfig
from blip_edge.models.folder import Model, load_model
from blip_edge.models.image_tower import ImageTower, read_image_tower
from blip_edge.models.reading import told
from blip_edge.models.text_tower import TextTower, read_text_tower
from blip_edge.models.weights import shortened
from blip_edge.preprocess import Preprocess
from blip_edge.progress import Progress
from blip_edge.text import Tokenizer
from blip_edge.training.recipe import TrainRecipe
from blip_edge.training.transfer import transfer

__all__ = ["Start"]

_IMAGE_SIZE = 384
"""BLIP tunes at so many pixels (paper, section 4.1)."""


@dataclass(frozen=True)
class Start:
    """Folders and files that a run starts from; None where there is none.

    Raises:
        UsageError: a whole model together with a tower.
    """

    init: Path | None = None
    """A MODEL."""
    vision: Path | None = None
    """A pretrained ViT."""
    text: Path | None = None
    """A folder with a pretrained BERT and its vocabulary."""

    def __post_init__(self) -> None:
        if self.init is not None and (self.vision is not None or self.text is not None):
            raise UsageError(
                "--init is a whole model; give it or towers (--vision-init, --text-init)"
            )

    def model(self, texts: Iterable[str], recipe: TrainRecipe, progress: Progress) -> Model:
        """The model to train, for the recipe's task; `texts` are read if it needs a vocabulary.

        Raises:
            UsageError: the recipe's image size is no multiple of the patch size.
            ArtifactError: what is started from is missing, damaged, or not what the task needs.
        """
        if self.init is not None:
            return _continued(self.init, recipe, progress)
        return _fresh(texts, recipe, _read_towers(recipe, self.vision, self.text, progress))


@dataclass(frozen=True)
class _Towers:
    """Pretrained parts of a new model; None where it starts from nothing."""

    image: ImageTower | None = None
    text: TextTower | None = None


def _read_towers(
    recipe: TrainRecipe, image: Path | None, text: Path | None, progress: Progress
) -> _Towers:
    """The ViT in the file `image` and the BERT in the folder `text`, where they are given.

    What stays behind of them, and what the task needs beside them, is said.

    Raises:
        UsageError: the recipe's image size is no multiple of the ViT's patch size.
        ArtifactError: they are missing, damaged, or cannot be BLIP's towers.
    """
    towers = _Towers(
        None if image is None else read_image_tower(image, image_size=recipe.image_size),
        None if text is None else read_text_tower(text),
    )
    for tower in (towers.image, towers.text):
        for line in [] if tower is None else told(tower.left):
            progress.say(line)
    if towers.image is not None and towers.image.stored != towers.image.config.num_tokens:
        old, new = towers.image.stored, towers.image.config.num_tokens
        progress.say(f"position embeddings: {old} interpolated to {new}")
    if new_parts := _new_parts(towers, recipe):
        progress.say(f"fresh: {', '.join(new_parts)}")
    return towers


def _new_parts(towers: _Towers, recipe: TrainRecipe) -> list[str]:
    """What `towers` do not bring of what the task needs; nothing when all is new anyway."""
    parts = BlipConfig(architecture=ARCHITECTURES[recipe.task]).parts
    text = towers.text
    if text is None:
        return ["text tower"] if towers.image is not None else []
    found = {
        "image tower": towers.image is None,
        "cross-attention": True,
        "[DEC] and [ENC]": text.appended,
        "language-model head": parts.decoder and not text.has_head,
        "projections and matching head": parts.compares,
        "verdict on two pictures": parts.twin,
    }
    return [what for what, is_new in found.items() if is_new]


def _fresh(texts: Iterable[str], recipe: TrainRecipe, towers: _Towers) -> Model:
    """A new model for the recipe's task around `towers`.

    Sizes are the towers' and else the recipe's; the vocabulary is the text tower's, or else learned
    from `texts`.

    Raises:
        ArtifactError: a tower's weights are not those of its sizes.
    """
    image, text = towers.image, towers.text
    tokenizer = _learned(texts, recipe) if text is None else text.words
    vision = _vision(recipe) if image is None else image.config
    vision = replace(vision, drop_path_rate=recipe.drop_path)
    words = _text(recipe, tokenizer) if text is None else text.config
    config = BlipConfig(
        vision_config=vision,
        text_config=replace(
            words,
            encoder_hidden_size=vision.hidden_size,
            hidden_dropout_prob=recipe.dropout,
            attention_probs_dropout_prob=recipe.dropout,
        ),
        architecture=ARCHITECTURES[recipe.task],
        image_text_hidden_size=recipe.embed_dim,
    )
    blip = build(config)
    for tower in (image, text):
        if tower is not None:
            tower.plant(blip)
    return Model(blip, tokenizer, Preprocess(size=vision.image_size), _search(tokenizer, recipe))


def _learned(texts: Iterable[str], recipe: TrainRecipe) -> Tokenizer:
    return Tokenizer.train([*texts, recipe.prompt], recipe.vocab_size)


def _vision(recipe: TrainRecipe) -> VisionConfig:
    return VisionConfig(
        image_size=recipe.image_size or _IMAGE_SIZE,
        patch_size=recipe.patch_size,
        hidden_size=recipe.vision_width,
        num_hidden_layers=recipe.vision_layers,
        num_attention_heads=recipe.vision_heads,
        intermediate_size=4 * recipe.vision_width,
    )


def _text(recipe: TrainRecipe, tokenizer: Tokenizer) -> TextConfig:
    return TextConfig(
        vocab_size=tokenizer.vocab_size,
        max_position_embeddings=recipe.max_positions,
        hidden_size=recipe.text_width,
        num_hidden_layers=recipe.text_layers,
        num_attention_heads=recipe.text_heads,
        intermediate_size=4 * recipe.text_width,
        bos_token_id=tokenizer.dec,
        pad_token_id=tokenizer.pad,
        sep_token_id=tokenizer.sep,
    )


def _continued(folder: Path, recipe: TrainRecipe, progress: Progress) -> Model:
    """The model in `folder` with the parts that the task needs, at the recipe's picture size.

    What it cannot give starts fresh and is said; see `transfer`.

    Raises:
        UsageError: the recipe's image size is no multiple of the model's patch size.
        ArtifactError: it is no model, or lacks what the task needs.
    """
    start = load_model(folder)
    vision = start.config.vision_config
    if recipe.image_size:
        vision = vision.resized(recipe.image_size)
    vision = replace(vision, drop_path_rate=recipe.drop_path)
    config = replace(start.config, architecture=ARCHITECTURES[recipe.task], vision_config=vision)
    blip, new, lacking = transfer(start.blip, config, source=str(folder))
    if lacking:
        parts = sorted({name.split(".")[0] for name in lacking})
        raise ArtifactError(
            f"--init is a {start.config.architecture} without {', '.join(parts)}; "
            f"{recipe.task} needs them: start from a pre-trained model"
        )
    if new:
        progress.say(f"fresh: {len(new)} tensors ({shortened(new)})")
    pixels = replace(start.preprocess, size=vision.image_size)
    return Model(blip, start.tokenizer, pixels, _search(start.tokenizer, recipe))


def _search(tokenizer: Tokenizer, recipe: TrainRecipe) -> Generation:
    answers = recipe.task == "vqa"  # from [DEC] alone, and as short as one word
    return Generation(
        bos_token_id=tokenizer.dec,
        eos_token_id=tokenizer.sep,
        pad_token_id=tokenizer.pad,
        num_beams=recipe.num_beams,
        min_length=1 if answers else recipe.min_length,
        max_length=recipe.max_length,
        prompt="" if answers else recipe.prompt,
    )
