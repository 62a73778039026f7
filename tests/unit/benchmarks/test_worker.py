"""The timing process: its dialogue, and where it says that the time went."""

import io
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blip_edge.benchmarks.job import as_json
from blip_edge.benchmarks.stopwatch import TIMES, Stopwatch
from blip_edge.benchmarks.worker import peak_memory_bytes, serve
from blip_edge.benchmarks.workers import WorkerProcess
from blip_edge.errors import ArtifactError, BlipEdgeError
from blip_edge.runtime.asked import Asked

PAUSE = 0.004  # seconds; sleeping is never shorter than asked
ROUNDED = 1e-3  # milliseconds are rounded to four decimals


@dataclass(frozen=True)
class Said:
    token_ids: tuple[int, ...]


class FakeSession:
    def step(self, input_ids: Any, beam_idx: Any) -> Any:
        time.sleep(PAUSE)
        return np.zeros((1, 5), np.float32)


class FakeEngine:
    simulated = False

    def encode(self, pixel_values: Any) -> Any:
        time.sleep(3 * PAUSE)
        return "cross"

    def start(self, cross: Any, rows: int) -> FakeSession:
        assert cross == "cross"
        return FakeSession()


class FakeModel:
    """Takes one pause to preprocess, three to encode, one for each of two steps."""

    def __init__(self, engine: FakeEngine | None = None, rows: int = 1) -> None:
        self.engine = engine or FakeEngine()
        self.rows = rows

    def caption(self, image: Any) -> Said:
        time.sleep(PAUSE)
        session = self.engine.start(self.engine.encode(None), self.rows)
        session.step(None, None)
        session.step(None, None)
        return Said((1, 2, 3, 4))


class Plain:
    def caption(self, image: Any) -> Said:
        return Said((7,))


def test_stages_are_told_apart_and_add_up() -> None:
    sample = Stopwatch(FakeModel(), prompt_tokens=3).ask(Asked(("a.png",)))
    assert sample["preprocess_ms"] >= 1e3 * PAUSE
    assert sample["vision_ms"] >= 3e3 * PAUSE
    assert sample["decode_ms"] >= sample["step_ms"] >= 2e3 * PAUSE
    assert (sample["steps"], sample["tokens"]) == (2, 1)
    stages = sample["preprocess_ms"] + sample["vision_ms"] + sample["decode_ms"]
    assert stages == pytest.approx(sample["total_ms"], abs=ROUNDED)
    assert sample["cpu_ms"] < sample["total_ms"]  # sleeping costs no processor


def test_nothing_is_carried_over_to_the_next_caption() -> None:
    watch = Stopwatch(FakeModel())
    watch.ask(Asked(("a.png",)))
    assert watch.ask(Asked(("b.png",)))["steps"] == 2


class Nested(FakeEngine):
    """Builds its session out of another one of its own, as an engine with a shared prompt does."""

    def start(self, cross: Any, rows: int) -> FakeSession:
        return super().start(cross, rows) if rows == 1 else self.start(cross, 1)


def test_a_session_within_a_session_is_counted_once() -> None:
    model = FakeModel(Nested(), rows=3)
    sample = Stopwatch(model).ask(Asked(("a.png",)))
    assert sample["steps"] == 2
    assert sample["step_ms"] <= sample["decode_ms"]


class Answering(FakeEngine):
    """Reads for two pauses; the text's vector is of a call within another one."""

    def ask(self, seen: Any, question: str) -> str:
        self.embed_text(question)
        time.sleep(PAUSE)
        return "cross"

    def embed_text(self, text: str) -> None:
        time.sleep(PAUSE)


class Answerer(FakeModel):
    def answer(self, image: Any, question: str) -> str:
        engine: Any = self.engine
        session = engine.start(engine.ask(engine.encode(image), question), 1)
        session.step(None, None)
        return "red"


def test_an_answer_has_read_its_question_before_it_is_decoded() -> None:
    model = Answerer(Answering())
    sample = Stopwatch(model, "vqa").ask(Asked(("a.png",), ("which colour?",)))
    assert 2e3 * PAUSE <= sample["read_ms"] < 3e3 * PAUSE
    assert sample["decode_ms"] >= sample["step_ms"] >= 1e3 * PAUSE
    stages = [sample[f"{stage}_ms"] for stage in ("preprocess", "vision", "read", "decode")]
    assert sum(stages) == pytest.approx(sample["total_ms"], abs=ROUNDED)
    assert "tokens" not in sample


def test_without_an_engine_only_the_whole_is_known() -> None:
    assert set(Stopwatch(Plain()).ask(Asked(("a.png",)))) == {"total_ms", "cpu_ms", "tokens"}


def test_the_dialogue() -> None:
    out = io.StringIO()
    lines = [
        json.dumps({"asked": [as_json(Asked((name,))) for name in "ab"]}),
        json.dumps({"stop": True}),
        "never read",
    ]
    code = serve(lambda bundle, threads: FakeModel(), Path("b"), 2, "caption", lines, out)
    greeting, answer, farewell = (json.loads(line) for line in out.getvalue().splitlines())
    assert code == 0
    assert greeting["simulated"] is False
    assert greeting["load_ms"] >= 0
    assert len(answer["samples"]) == 2
    assert set(TIMES) - {"read_ms"} <= set(answer["samples"][0])
    assert farewell["peak_memory_bytes"] > 1 << 20


def test_a_users_mistake_is_answered_with_its_exit_code() -> None:
    def refuse(bundle: Path, threads: int) -> FakeModel:
        raise ArtifactError("vision.onnx was changed")

    out = io.StringIO()
    assert serve(refuse, Path("b"), 2, "caption", [], out) == 3
    assert json.loads(out.getvalue())["error"] == {
        "exit_code": 3,
        "message": "vision.onnx was changed",
    }


def test_peak_memory_is_this_process_own() -> None:
    before = peak_memory_bytes()
    block = np.ones(64 << 20, np.uint8)
    after = peak_memory_bytes()
    assert before is not None
    assert after is not None
    assert after >= before
    assert after > block.nbytes


SCRIPT = """
import sys
from pathlib import Path
from blip_edge.benchmarks.worker import serve
from blip_edge.errors import ArtifactError

class Said:
    token_ids = (1, 2)

class Model:
    def caption(self, image):
        if str(image) == "crash":
            sys.exit("out of luck")
        if str(image) == "bad":
            raise ArtifactError("bad: cannot be decoded")
        return Said()

sys.exit(serve(lambda bundle, threads: Model(), Path("b"), 1, "caption", sys.stdin, sys.stdout))
"""


def fake() -> WorkerProcess:
    return WorkerProcess(Path("some/bundle"), 1, "caption", [sys.executable, "-c", SCRIPT])


def test_a_process_answers_and_ends() -> None:
    worker = fake()
    try:
        assert worker.greeting["load_ms"] >= 0
        assert [sample["tokens"] for sample in worker.run([Asked(("a",)), Asked(("b",))])] == [2, 2]
        peak = worker.stop()
        assert peak is not None
        assert peak > 1 << 20
    finally:
        worker.kill()


def test_its_errors_come_back_as_they_were() -> None:
    worker = fake()
    try:
        with pytest.raises(ArtifactError, match="bad: cannot be decoded"):
            worker.run([Asked(("bad",))])
    finally:
        worker.kill()


def test_a_dead_process_is_named_with_its_last_words() -> None:
    worker = fake()
    try:
        with pytest.raises(BlipEdgeError, match=r"bundle: .* ended with 1: out of luck"):
            worker.run([Asked(("crash",))])
    finally:
        worker.kill()
