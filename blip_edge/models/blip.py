"""BLIP, composed of its towers: which parts a model has follows from what it is for.

Captioning has the image tower and the decoder; matching has the image tower, the encoder, the two
projections and the matching head; pre-training has all of it, the text encoder sharing every
weight with the decoder but its self-attention (paper section 3.1, table 3: "all except SA").
Answering questions has encoder and decoder, the decoder reading the question's states instead of
the picture; judging a sentence about two pictures (NLVR2) has an encoder that looks at both.
"""

# B images · F frames of a clip · R rows = B x texts · T text tokens · N image tokens that the
# image tower leaves · D width · E width of the shared space · V vocabulary

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blip_edge.models.attention import Cross, TwinCross, causal_mask, padding_mask
from blip_edge.models.bert import TextDecoder, TextModel
from blip_edge.models.config import BlipConfig
from blip_edge.models.vit import VisionModel, sine_positions

__all__ = ["Blip", "build", "count_parameters"]


class Blip(nn.Module):
    """The network. Parts that its architecture lacks are None."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__()
        self.config = config
        vision, text, parts = config.vision_config, config.text_config, config.parts
        self.vision_model = VisionModel(vision)
        self.text_decoder = TextDecoder(config.decoder_config) if parts.decoder else None
        self.text_encoder = TextModel(text, twin=parts.twin) if parts.encoder else None
        if parts.compares:
            self.vision_proj = nn.Linear(vision.hidden_size, config.image_text_hidden_size)
            self.text_proj = nn.Linear(text.hidden_size, config.image_text_hidden_size)
            self.itm_head = nn.Linear(text.hidden_size, 2)
            self.temp = nn.Parameter(torch.tensor(config.contrastive_temperature))
        if parts.twin:
            width = text.hidden_size
            self.cls_head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        if parts.decoder and parts.compares:
            self._share_all_but_attention()
            for mine, theirs in zip(self.encoder.blocks, self.decoder.bert.blocks, strict=True):
                mine.crossattention = theirs.crossattention
        elif config.tie_encoder_decoder:  # cross-attentions read different things
            self._share_all_but_attention()

    def _share_all_but_attention(self) -> None:
        encoder, decoder = self.encoder, self.decoder.bert
        encoder.embeddings = decoder.embeddings
        for mine, theirs in zip(encoder.blocks, decoder.blocks, strict=True):
            mine.intermediate = theirs.intermediate
            mine.output = theirs.output

    @property
    def decoder(self) -> TextDecoder:
        """The decoder of a model that generates."""
        assert self.text_decoder is not None, "this architecture does not generate"
        return self.text_decoder

    @property
    def encoder(self) -> TextModel:
        """The text encoder of a model that matches, answers or judges."""
        assert self.text_encoder is not None, "this architecture does not encode texts"
        return self.text_encoder

    def image_tokens(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) pixels to (B, N, D) tokens; clips (B, F, 3, S, S) to (B, F · N, D).

        A clip's frames are seen one by one and stand one after another: BLIP has no notion of time
        (paper, table 10).
        """
        if pixel_values.ndim == 4:
            tokens: Tensor = self.vision_model(pixel_values)
            return tokens
        frames: Tensor = self.vision_model(pixel_values.flatten(0, 1))  # (B · F, N, D)
        clips: Tensor = frames.unflatten(0, pixel_values.shape[:2]).flatten(1, 2)
        return clips

    def lm_logits(
        self, input_ids: Tensor, image_tokens: Tensor, where: Tensor | None = None
    ) -> Tensor:
        """Teacher-forced logits (B, T, V) of right-padded (B, T) ids, one text an image.

        With `where` (B, T), which is true at n positions, logits of those alone: (n, V).
        """
        bert = self.decoder.bert
        # Only in training: at other times there may be listeners to the projections of pictures.
        cross = [image_tokens] * len(bert.blocks) if self.training else bert.cross(image_tokens)
        mask = causal_mask(input_ids.shape[1], 0, input_ids.device)
        hidden, _ = bert(input_ids, mask, cross)
        return self.decoder.logits(hidden if where is None else hidden[where])

    def embed_image(self, image_tokens: Tensor) -> Tensor:
        """(B, N, D) image tokens to unit vectors (B, E); a clip's is the mean of its frames'."""
        starts = image_tokens[:, :: self.config.vision_config.num_output_tokens]  # (B, F, D)
        return F.normalize(self.vision_proj(starts).mean(1), dim=-1)

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(B, T) ids that start with [CLS] to unit vectors (B, E)."""
        hidden, _ = self.encoder(input_ids, padding_mask(attention_mask))
        return F.normalize(self.text_proj(hidden[:, 0]), dim=-1)

    def ground(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        cross: Sequence[Cross],
        maps: list[Tensor] | None = None,
    ) -> Tensor:
        """Hidden states (R, T, D) of (R, T) ids that start with [ENC], having seen the picture.

        `cross` is `encoder.cross` of the image tokens. Several texts of an image are adjacent.
        Each layer's cross-attention is appended to `maps` when it is given; see `TextModel`.
        """
        mask = padding_mask(attention_mask)
        hidden: Tensor = self.encoder(input_ids, mask, cross, maps=maps)[0]
        return hidden

    def itm_logits(
        self, input_ids: Tensor, attention_mask: Tensor, cross: Sequence[Cross]
    ) -> Tensor:
        """(R, 2) logits, class 1 = match, of texts and pictures; see `ground`."""
        out: Tensor = self.itm_head(self.ground(input_ids, attention_mask, cross)[:, 0])
        return out

    def dialog_cross(
        self, image_tokens: Tensor, caption_ids: Tensor, caption_mask: Tensor
    ) -> list[Cross]:
        """What a dialog is judged against: the caption's states and then the picture's tokens.

        `caption_ids` (B, T) start with [CLS]. The rest is `itm_logits` of history, question and
        answer (VisDial; paper, table 9). The towers must be of one width.
        """
        caption, _ = self.encoder(caption_ids, padding_mask(caption_mask))
        context = torch.cat([caption, image_tokens], dim=1)
        mask = F.pad(caption_mask, (0, image_tokens.shape[1]), value=1)
        return self.encoder.cross(context, padding_mask(mask))

    def answer_cross(
        self, question_states: Tensor, attention_mask: Tensor | None = None
    ) -> list[Cross]:
        """What an answer is decoded from: (R, T, D) `ground` states of questions.

        Without a mask the padding of questions counts too, as in the paper's code.
        """
        mask = None if attention_mask is None else padding_mask(attention_mask)
        return self.decoder.bert.cross(question_states, mask)

    def reason_logits(
        self, input_ids: Tensor, attention_mask: Tensor, left: Tensor, right: Tensor
    ) -> Tensor:
        """(B, 2) logits, class 1 = true, of sentences that start with [ENC] about two pictures.

        `left` and `right` are their image tokens (B, N, D).
        """
        return self.judge(input_ids, attention_mask, self.encoder.twin_cross(left, right))

    def judge(
        self, input_ids: Tensor, attention_mask: Tensor, cross: Sequence[TwinCross]
    ) -> Tensor:
        """`reason_logits` with the keys and values of both pictures at hand."""
        hidden, _ = self.encoder(input_ids, padding_mask(attention_mask), cross)
        out: Tensor = self.cls_head(hidden[:, 0])
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
