"""How a student is cut out of its teacher: which layers, heads and neurons it starts with."""

from collections.abc import Iterable

from torch import Tensor

from blip_edge.distill.importance import choose, measure
from blip_edge.distill.recipe import DistillRecipe
from blip_edge.distill.surgery import Keep, cut, last_of_each_block
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.models.blip import Blip
from blip_edge.text import Tokenizer
from blip_edge.training.batches import Batch
from blip_edge.training.losses import lm_loss
from blip_edge.training.objectives import caption_labels

__all__ = ["caption_loss", "inherit", "require_captioner"]


def require_captioner(blip: Blip, verb: str) -> None:
    """Refuse a model that cannot caption.

    Raises:
        ArtifactError: the model's architecture is another.
    """
    found = blip.config.architecture
    if found != "BlipForConditionalGeneration":
        raise ArtifactError(
            f"{verb} works on captioners so far, not on {found}; "
            "run `blip-edge train --task caption --init MODEL` first"
        )


def caption_loss(blip: Blip, tokenizer: Tokenizer, prompt: str, batch: Batch) -> Tensor:
    """The language-model loss of `batch`, without smoothing."""
    labels = caption_labels(batch, len(tokenizer.prompt_ids(prompt)))
    tokens = blip.vision_model(batch.pixel_values)
    return lm_loss(blip.lm_logits(batch.first(tokenizer.dec), tokens), labels)


def inherit(
    teacher: Blip,
    tokenizer: Tokenizer,
    prompt: str,
    recipe: DistillRecipe,
    batches: Iterable[Batch],
) -> tuple[Blip, Keep]:
    """A student with the teacher's most important heads and neurons in every k-th layer.

    Raises:
        UsageError: the student would have more layers than its teacher.
    """
    config = teacher.config
    for name, wanted, there in (
        ("vision_layers", recipe.vision_layers, config.vision_config.num_hidden_layers),
        ("text_layers", recipe.text_layers, config.text_config.num_hidden_layers),
    ):
        if wanted > there:
            raise UsageError(f"{name} = {wanted}, but the teacher has {there} layers")
    importance = measure(
        teacher, lambda batch: caption_loss(teacher, tokenizer, prompt, batch), batches
    )
    whole = choose(importance, heads=recipe.keep_heads, neurons=recipe.keep_neurons, even=True)
    vision = last_of_each_block(config.vision_config.num_hidden_layers, recipe.vision_layers)
    text = last_of_each_block(config.text_config.num_hidden_layers, recipe.text_layers)
    keep = Keep({i: whole.vision[i] for i in vision}, {i: whole.text[i] for i in text})
    return cut(teacher, keep), keep
