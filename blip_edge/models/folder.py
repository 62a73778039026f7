"""A MODEL folder: everything that a network needs to be used, in Hugging Face's words."""

from dataclasses import dataclass, replace
from pathlib import Path

from blip_edge.artifact import read_json, write_json
from blip_edge.errors import ArtifactError
from blip_edge.generation import Generation
from blip_edge.models.blip import Blip
from blip_edge.models.config import BlipConfig
from blip_edge.models.quantized import Quantization, apply_quantization
from blip_edge.models.weights import read_weights, restore, save_weights
from blip_edge.preprocess import Preprocess
from blip_edge.text import Tokenizer

__all__ = ["Model", "load_model", "save_model"]

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
_PREPROCESSOR, _GENERATION = "preprocessor_config.json", "generation_config.json"


@dataclass(frozen=True)
class Model:
    """What a MODEL folder holds."""

    blip: Blip
    tokenizer: Tokenizer
    preprocess: Preprocess
    generation: Generation

    @property
    def config(self) -> BlipConfig:
        """The network's sizes."""
        return self.blip.config

    def with_blip(self, blip: Blip) -> "Model":
        """The same words and pixels around another network."""
        return replace(self, blip=blip)


def load_model(folder: Path, *, quantized: bool = False) -> Model:
    """Read a MODEL folder; nothing outside of it is needed.

    With `quantized`, the layers that its quantization.json put into 8 bits compute that way; a
    folder without one is float either way.

    Raises:
        ArtifactError: a file is missing or damaged, or the files do not fit together.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder; give a model that `blip-edge train` wrote")
    if not (folder / _CONFIG).is_file():
        raise ArtifactError(
            f"{folder} is no model folder ({_CONFIG} is missing); give one that `blip-edge train`, "
            "`distill`, `prune` or `quantize` wrote"
        )
    config = BlipConfig.from_json(read_json(folder / _CONFIG), source=folder / _CONFIG)
    blip = restore(config, read_weights(folder / _WEIGHTS), source=folder / _WEIGHTS)
    tokenizer = Tokenizer.load(folder)
    words = config.text_config.vocab_size
    if tokenizer.vocab_size > words:
        raise ArtifactError(
            f"{folder}: the tokenizer has {tokenizer.vocab_size} ids, the model embeds {words}"
        )
    source = folder / _PREPROCESSOR
    preprocess = Preprocess.from_json(read_json(source), source=source)
    if preprocess.size != config.vision_config.image_size:
        raise ArtifactError(
            f"{source}: pictures of {preprocess.size} pixels, but the model takes "
            f"{config.vision_config.image_size}"
        )
    source = folder / _GENERATION
    generation = Generation.from_json(read_json(source), source=source)
    if quantized and Quantization.is_in(folder):
        apply_quantization(blip, Quantization.load(folder), source=folder)
    return Model(blip.eval(), tokenizer, preprocess, generation)


def save_model(draft: Path, model: Model) -> None:
    """Write a MODEL folder's files into `draft`, provenance apart."""
    config = model.config
    if config.parts.compares:  # the weights file has no place for it
        config = replace(config, contrastive_temperature=model.blip.temp.item())
    write_json(draft / _CONFIG, config.to_json())
    write_json(draft / _PREPROCESSOR, model.preprocess.to_json())
    write_json(draft / _GENERATION, model.generation.to_json())
    model.tokenizer.save(draft)
    save_weights(model.blip, draft / _WEIGHTS)
