"""Where a caption's time goes, read off the engine's own calls.

The search asks its engine three things: encode, start, step. A stopwatch stands at these doors of
the very model that users run, so no second pipeline exists for timing, and the three stages add up
to the whole:

    preprocess   from the call until the engine is asked to encode: file, decode, resize, normalise
    vision       encode
    decode       the rest: search, steps, detokenizer; `step` is the part spent in the steps
"""

from dataclasses import dataclass
from time import perf_counter_ns, process_time_ns
from typing import Any, Protocol

from blip_edge.runtime.engine import F32, I32, Session

__all__ = ["COLUMNS", "TIMES", "Captioner", "Stopwatch"]

TIMES = ("total_ms", "cpu_ms", "preprocess_ms", "vision_ms", "decode_ms", "step_ms")
COLUMNS = (*TIMES, "steps", "tokens")


class Captioner(Protocol):
    """What can be timed: an `EdgeModel`, or anything that captions a file.

    With an `engine` attribute the time is split into stages; without one only the whole is known.
    """

    def caption(self, image: Any) -> Any:
        """A caption with `token_ids`."""
        ...


class _TimedSession:
    def __init__(self, session: Session, watch: "Stopwatch") -> None:
        self._session, self._watch = session, watch

    def step(self, input_ids: I32, beam_idx: I32) -> F32:
        started = perf_counter_ns()
        logits = self._session.step(input_ids, beam_idx)
        self._watch.step_ns += perf_counter_ns() - started
        self._watch.steps += 1
        return logits


@dataclass
class Stopwatch:
    """Times one caption at a time of `model`, whose engine it listens to from now on."""

    model: Captioner
    prompt_tokens: int = 0
    """How many of a caption's tokens were given and not made."""
    step_ns: int = 0
    steps: int = 0
    _starting: bool = False
    _encode: tuple[int, int] | None = None  # when the engine began and ended encoding

    def __post_init__(self) -> None:
        engine = getattr(self.model, "engine", None)
        if engine is None:
            return
        encode, start = engine.encode, engine.start

        def timed_encode(pixel_values: F32) -> Any:
            started = perf_counter_ns()
            cross = encode(pixel_values)
            self._encode = (started, perf_counter_ns())
            return cross

        def timed_start(cross: Any, rows: int) -> Session:
            if self._starting:  # an engine may build a session out of another one of its own
                inner: Session = start(cross, rows)
                return inner
            self._starting = True
            try:
                return _TimedSession(start(cross, rows), self)
            finally:
                self._starting = False

        # On the instance and not around it: what else the engine is, and is asked for, stays.
        engine.encode, engine.start = timed_encode, timed_start

    def caption(self, image: Any) -> dict[str, float]:
        """Caption one picture; the times in milliseconds by `COLUMNS`, stages only if known."""
        self.step_ns, self.steps, self._encode = 0, 0, None
        cpu, started = process_time_ns(), perf_counter_ns()
        caption = self.model.caption(image)
        ended, cpu_ended = perf_counter_ns(), process_time_ns()
        sample: dict[str, float] = {
            "total_ms": _ms(ended - started),
            "cpu_ms": _ms(cpu_ended - cpu),
            "tokens": len(caption.token_ids) - self.prompt_tokens,
        }
        if self._encode is not None:
            begin, end = self._encode
            sample |= {
                "preprocess_ms": _ms(begin - started),
                "vision_ms": _ms(end - begin),
                "decode_ms": _ms(ended - end),
                "step_ms": _ms(self.step_ns),
                "steps": self.steps,
            }
        return sample


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 4)
