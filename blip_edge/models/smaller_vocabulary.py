"""A model that knows fewer words: the rows of the words that are needed, and the others gone.

Of a narrow network the word table is a large share, and the head reads all of it at every token;
data of few words never looks most of it up.
"""

# V words before, V' words that are kept

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain

import torch

from blip_edge.models.folder import Model
from blip_edge.models.weights import restore

__all__ = ["with_vocabulary"]

_OVER_WORDS = ("embeddings.word_embeddings.weight", "cls.predictions.bias")
"""How the names of weights end whose first axis is the vocabulary; the head shares the table."""


def with_vocabulary(model: Model, texts: Iterable[str]) -> Model:
    """`model` with the vocabulary that `texts` and its prompt need; see `Tokenizer.restricted`.

    Word tables go from (V, D) to (V', D) and the head's bias from (V,) to (V',), so that the
    network computes what it did and its logits are those of the kept words. Weights that are
    shared stay shared, and none is shared with `model`.

    Raises:
        ArtifactError: the tokenizer is no WordPiece, or the network is not in float.
    """
    words, kept = model.tokenizer.restricted(chain(texts, [model.generation.prompt]))
    text = replace(
        model.config.text_config,
        vocab_size=len(kept),
        bos_token_id=words.dec,
        pad_token_id=words.pad,
        sep_token_id=words.sep,
    )
    rows = torch.from_numpy(kept)
    # Of shared parameters this lists the first name, and one is enough.
    weights = {
        name: weight.detach()[rows.to(weight.device)]
        if name.endswith(_OVER_WORDS)
        else weight.detach().clone()
        for name, weight in model.blip.named_parameters()
    }
    config = replace(model.config, text_config=text)
    return replace(
        model,
        blip=restore(config, weights, source="the model whose vocabulary is cut").eval(),
        tokenizer=words,
        generation=replace(
            model.generation,
            bos_token_id=words.dec,
            eos_token_id=words.sep,
            pad_token_id=words.pad,
        ),
    )
