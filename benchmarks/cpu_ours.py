"""A bundle of ours in the race of `cpu_inference.py`: the public runtime, and where its time goes.

The picture is decoded already, and preparing it is part of the time, which it is not for others.
"""

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from cpu_bundles import file_bytes
from cpu_tasks import ANSWER_TOKENS, NEW_TOKENS, READ, TASKS, THREADS, Inputs
from numpy.typing import NDArray

from blip_edge import load

_CALLS = {"encode": "vision", "ask": "question", "match": "texts", "embed_text": "texts"}
_STAGES = ("preprocess", "vision", "question", "prefill", "steps", "texts", "rest")


class Ours:
    """A loaded bundle and one task."""

    def __init__(self, folder: Path, task: str, given: Inputs) -> None:
        self._model: Any = load(folder, threads=THREADS)
        self._task, self._given = task, given
        self._pixels = np.load(folder.parent / "pixels.npy")
        self._watch = _Watch(self._model.engine)
        self.file_bytes = file_bytes(folder, (".onnx", ".xml", ".bin"))

    def run(self) -> tuple[Any, dict[str, float]]:
        """The answer, and milliseconds by stage."""
        self._watch.begin()
        answer = self._ask()
        return answer, self._watch.end()

    def _ask(self) -> Any:
        model, given = self._model, self._given
        match self._task:
            case "matching":
                return model.itm_logits(given.picture, given.texts[:READ]).tolist()
            case "text":
                return model.embed_text(given.texts).tolist()
            case "vqa":
                length = 1 + ANSWER_TOKENS
                answer = model.answer(
                    given.picture, given.question, beams=1, min_length=length, max_length=length
                )
                return answer.text.split()
            case task:
                start = given.prompt.shape[1]
                caption = model.caption(
                    given.picture,
                    beams=TASKS[task].beams,
                    min_length=start + NEW_TOKENS,
                    max_length=start + NEW_TOKENS,
                    length_penalty=1.0,
                    repetition_penalty=1.0,
                )
                return model.tokenizer.decode(caption.token_ids[start:]).split()

    def forced(self) -> NDArray[np.float32]:
        """(T, V) logits after each of the forced tokens, one step each."""
        engine, ids = self._model.engine, self._given.forced.astype(np.int32)
        session = engine.start(engine.encode(self._pixels), 1)
        row = np.zeros(1, dtype=np.int32)
        return np.stack([session.step(ids[:, [at]], row)[0].copy() for at in range(ids.shape[1])])


class _Watch:
    """Stands at the doors of an engine, so that what is timed is what users run."""

    def __init__(self, engine: Any) -> None:
        self.began, self.first = 0.0, 0.0
        self.spent = dict.fromkeys(_STAGES, 0.0)
        self._starting = False
        for name, stage in _CALLS.items():
            if hasattr(engine, name):
                setattr(engine, name, self.timed(getattr(engine, name), stage))
        start = engine.start

        def started(cross: Any, rows: int) -> Any:
            if self._starting:  # an engine may build a session out of another one of its own
                return start(cross, rows)
            self._starting = True
            try:
                return _Session(start(cross, rows), self)
            finally:
                self._starting = False

        engine.start = started

    def timed(self, call: Any, stage: str) -> Any:
        def through(*args: Any, **how: Any) -> Any:
            before = perf_counter()
            self.first = self.first or before
            try:
                return call(*args, **how)
            finally:
                self.spent[stage] += perf_counter() - before

        return through

    def begin(self) -> None:
        self.spent = dict.fromkeys(_STAGES, 0.0)
        self.began, self.first = perf_counter(), 0.0

    def end(self) -> dict[str, float]:
        total = perf_counter() - self.began
        self.spent["preprocess"] = self.first - self.began
        self.spent["rest"] = total - sum(self.spent.values())
        return {stage: 1e3 * seconds for stage, seconds in self.spent.items()}


class _Session:
    def __init__(self, session: Any, watch: _Watch) -> None:
        self._prefill = watch.timed(session.step, "prefill")
        self._step = watch.timed(session.step, "steps")
        self._begun = False

    def step(self, input_ids: Any, beam_idx: Any) -> Any:
        step, self._begun = self._step if self._begun else self._prefill, True
        return step(input_ids, beam_idx)
