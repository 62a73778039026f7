"""A search that ends where the model's positions do, whatever decodes it."""

# R rows · T text tokens · V vocabulary

from blip_edge.errors import UsageError
from blip_edge.runtime.engine import F32, I32, Session

__all__ = ["Room"]


class Room:
    """A session over another that counts the tokens which a row has by now.

    It is asked at each step, so that a `max_length` that no text reaches does no harm.

    Args:
        session: that decodes.
        tokens: how many positions the model has, the prompt's included; 0 where that is not known.
    """

    def __init__(self, session: Session, tokens: int) -> None:
        self._session, self._tokens = session, tokens
        self._used = 0

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        """See `Session.step`.

        Raises:
            UsageError: the model holds fewer tokens.
        """
        self._used += input_ids.shape[1]
        if 0 < self._tokens < self._used:
            raise UsageError(f"the model holds {self._tokens} tokens; ask for a smaller max_length")
        return self._session.step(input_ids, beam_idx)
