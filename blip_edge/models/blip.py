"""BLIP, composed of its towers: which parts a model has follows from what it is for.

Captioning has the image tower and the decoder; matching has the image tower, the encoder, the two
projections and the matching head; pre-training has all of it, the text encoder sharing every
weight with the decoder but its self-attention (paper section 3.1, table 3: "all except SA").
"""

# B images · T text tokens · N image tokens · D width · V vocabulary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.bert import TextDecoder, TextModel, padding_mask
from blip_edge.models.config import BlipConfig
from blip_edge.models.vit import VisionModel, sine_positions

__all__ = ["Blip", "build", "count_parameters"]

# The paper's start for the contrastive temperature (appendix; the same as ALBEF's).
_TEMPERATURE = 0.07


class Blip(nn.Module):
    """The network. Parts that its architecture lacks are None."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__()
        self.config = config
        vision, text = config.vision_config, config.text_config
        generates = config.architecture != "BlipForImageTextRetrieval"
        matches = config.architecture != "BlipForConditionalGeneration"
        self.vision_model = VisionModel(vision)
        self.text_decoder = TextDecoder(text) if generates else None
        self.text_encoder = TextModel(text) if matches else None
        if matches:
            self.vision_proj = nn.Linear(vision.hidden_size, config.image_text_hidden_size)
            self.text_proj = nn.Linear(text.hidden_size, config.image_text_hidden_size)
            self.itm_head = nn.Linear(text.hidden_size, 2)
        if generates and matches:
            self.temp = nn.Parameter(torch.tensor(_TEMPERATURE))
            self._share_all_but_self_attention()

    def _share_all_but_self_attention(self) -> None:
        encoder, decoder = self.encoder, self.decoder.bert
        encoder.embeddings = decoder.embeddings
        for mine, theirs in zip(encoder.blocks, decoder.blocks, strict=True):
            mine.crossattention = theirs.crossattention
            mine.intermediate = theirs.intermediate
            mine.output = theirs.output

    @property
    def decoder(self) -> TextDecoder:
        """The image-grounded decoder of a model that generates."""
        assert self.text_decoder is not None, "this architecture does not generate"
        return self.text_decoder

    @property
    def encoder(self) -> TextModel:
        """The text encoder of a model that matches."""
        assert self.text_encoder is not None, "this architecture does not match"
        return self.text_encoder

    def lm_logits(self, input_ids: Tensor, image_tokens: Tensor) -> Tensor:
        """Teacher-forced logits (B, T, V) of right-padded (B, T) ids, one text an image."""
        logits: Tensor = self.decoder(input_ids, self.decoder.bert.cross(image_tokens))[0]
        return logits

    def embed_image(self, image_tokens: Tensor) -> Tensor:
        """(B, N, D) image tokens to unit vectors (B, E)."""
        return F.normalize(self.vision_proj(image_tokens[:, 0]), dim=-1)

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids that start with [CLS] to unit vectors (B, E)."""
        hidden, _ = self.encoder(input_ids, padding_mask(attention_mask))
        return F.normalize(self.text_proj(hidden[:, 0]), dim=-1)

    def itm_logits(self, input_ids: Tensor, attention_mask: Tensor, image_tokens: Tensor) -> Tensor:
        """(B, 2) logits, class 1 = match, of ids that start with [ENC]; one text an image."""
        cross = self.encoder.cross(image_tokens)
        hidden, _ = self.encoder(input_ids, padding_mask(attention_mask), cross)
        out: Tensor = self.itm_head(hidden[:, 0])
        return out


def build(config: BlipConfig) -> Blip:
    """A BLIP with fresh weights.

    Matrices are drawn with the deviation that 0.02 is at BERT's and ViT-B's width of 768: narrower
    ones get 0.02 · sqrt(768 / inputs), so that signals keep their size. Position embeddings of the
    image start as 2-D sines, from which a small data set learns faster than from noise (Beyer et
    al., "Better plain ViT baselines", arXiv 2205.01580).
    """
    model = Blip(config)
    model.apply(_initialise)
    embeddings = model.vision_model.embeddings
    nn.init.trunc_normal_(embeddings.class_embedding, std=0.02)
    with torch.no_grad():
        embeddings.position_embedding.copy_(sine_positions(config.vision_config))
    return model


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d):
        inputs = module.weight[0].numel()
        nn.init.trunc_normal_(module.weight, std=0.02 * (768 / max(1, inputs)) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)


def count_parameters(model: nn.Module) -> int:
    """Parameters, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())
