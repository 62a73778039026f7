"""Where an answer's time goes, read off the engine's own calls.

A model asks its engine to encode pictures, to read texts, and to decode, step by step. A stopwatch
stands at these doors of the very model that users run, so no second pipeline exists for timing, and
the stages add up to the whole:

    vision       encode
    read         texts: a question, a sentence, what is compared with a picture
    decode       from the start of a search on: steps, search, detokenizer; `step` is in the steps
    preprocess   the rest: file, decode, resize, normalise, and the words' tokens
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter_ns, process_time_ns
from typing import Any

from blip_edge.runtime.asked import Asked, ask
from blip_edge.runtime.engine import F32, I32, Session, Task

__all__ = ["COLUMNS", "TIMES", "Stopwatch"]

TIMES = ("total_ms", "cpu_ms", "preprocess_ms", "vision_ms", "read_ms", "decode_ms", "step_ms")
COLUMNS = (*TIMES, "steps", "tokens")

_DOORS = {
    "encode": "vision",
    "ask": "read",
    "embed_image": "read",
    "embed_text": "read",
    "match": "read",
    "reason": "read",
}


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
    """Times one answer at a time of `model`, whose engine it listens to from now on.

    A model is an `EdgeModel`, or anything that answers as one. With an `engine` attribute the time
    is split into stages; without one only the whole is known.
    """

    model: Any
    task: Task = "caption"
    prompt_tokens: int = 0
    """How many of a caption's tokens were given and not made."""
    step_ns: int = 0
    steps: int = 0
    _spent: dict[str, int] = field(default_factory=dict)  # nanoseconds by stage
    _inside: bool = False
    _search: int | None = None  # when the last search was started

    def __post_init__(self) -> None:
        engine: Any = getattr(self.model, "engine", None)
        # On the instance and not around it: what else the engine is, and is asked for, stays.
        for name, stage in _DOORS.items():
            if door := getattr(engine, name, None):
                setattr(engine, name, self._timed(door, stage))
        if start := getattr(engine, "start", None):
            engine.start = self._started(start)

    def ask(self, asked: Asked) -> dict[str, float]:
        """Ask once; the times in milliseconds by `COLUMNS`, stages only if known."""
        self.step_ns, self.steps, self._search = 0, 0, None
        self._spent.clear()
        cpu, started = process_time_ns(), perf_counter_ns()
        said = ask(self.model, self.task, asked)
        ended, cpu_ended = perf_counter_ns(), process_time_ns()
        sample = {"total_ms": _ms(ended - started), "cpu_ms": _ms(cpu_ended - cpu)}
        if self.task == "caption":
            sample["tokens"] = len(said.token_ids) - self.prompt_tokens
        if not self._spent:
            return sample
        stages = dict(self._spent)
        if self._search is not None:
            stages["decode"] = ended - self._search
            sample |= {"step_ms": _ms(self.step_ns), "steps": self.steps}
        stages["preprocess"] = ended - started - sum(stages.values())
        return sample | {f"{stage}_ms": _ms(spent) for stage, spent in stages.items()}

    def _timed(self, door: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside:  # a door behind a door
                return door(*args, **kwargs)
            self._inside, started = True, perf_counter_ns()
            try:
                return door(*args, **kwargs)
            finally:
                self._inside = False
                self._spent[stage] = self._spent.get(stage, 0) + perf_counter_ns() - started

        return timed

    def _started(self, start: Callable[..., Session]) -> Callable[..., Session]:
        def timed(cross: Any, rows: int) -> Session:
            if self._inside:  # an engine may build a session out of another one of its own
                return start(cross, rows)
            self._inside, self._search = True, perf_counter_ns()
            try:
                return _TimedSession(start(cross, rows), self)
            finally:
                self._inside = False

        return timed


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 4)
