"""One loaded model asked by several threads at once says what it says to one."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from blip_edge import load
from blip_edge.exporters import ExportRecipe, export
from blip_edge.exporters.asked import pictures
from blip_edge.models import save_model
from blip_edge.models.config import Architecture
from blip_edge.runtime.edge_model import EdgeModel
from tests import tiny

THREADS, ASKED = 4, 24
PACKAGES = {
    "torch": (),
    "onnx": ("onnxscript", "onnxruntime"),
    "openvino": ("onnxscript", "openvino"),
}
TEXTS = ["a red circle on the left", "both are blue squares", "what colour is it ?", "yes", "no"]
ANSWERS = ["yes", "no", "red circle"]
IMAGES = list(pictures(None, ASKED, seed=3))

Ask = Callable[[EdgeModel, int], Any]


def _caption(model: EdgeModel, n: int) -> Any:
    return model.caption(IMAGES[n], beams=1 + n % 3).token_ids


def _answer(model: EdgeModel, n: int) -> Any:
    if n % 2:
        return [one.text for one in model.answer(IMAGES[n], TEXTS[n % 5], ANSWERS)]
    return model.answer(IMAGES[n], TEXTS[n % 5]).text


def _match(model: EdgeModel, n: int) -> Any:
    if n % 3 == 0:
        return model.embed_image(IMAGES[n]).round(4).tolist()
    if n % 3 == 1:
        return model.embed_text(TEXTS[n % 5]).round(4).tolist()
    return [(round(one.itc, 4), round(one.itm, 4)) for one in model.match(IMAGES[n], TEXTS[:2])]


def _reason(model: EdgeModel, n: int) -> Any:
    found = model.reason(IMAGES[n], IMAGES[-n], TEXTS[n % 5])
    return found.label, round(found.score, 4)


ASKS: dict[Architecture, Ask] = {
    "BlipForConditionalGeneration": _caption,
    "BlipForQuestionAnswering": _answer,
    "BlipForImageTextRetrieval": _match,
    "BlipForImagesAndTextClassification": _reason,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Architecture, str], Path]:
    """`folders(architecture, target)`: a model folder for torch, else a bundle; made once."""
    root = tmp_path_factory.mktemp("threads")

    def made(architecture: Architecture, target: str) -> Path:
        model, bundle = root / architecture, root / f"{architecture}-{target}"
        if not model.is_dir():
            model.mkdir()
            save_model(model, tiny.model(TEXTS * 9, architecture))
        if target == "torch":
            return model
        if not bundle.is_dir():
            export(model, bundle, target=target, recipe=ExportRecipe(golden=1))  # type: ignore[arg-type]
        return bundle

    return made


def _at_once(ask: Callable[[int], Any], numbers: Sequence[int]) -> list[Any]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(ask, numbers))


@pytest.mark.parametrize(
    ("architecture", "target"),
    [
        *((architecture, "torch") for architecture in ASKS),
        ("BlipForImageTextRetrieval", "onnx"),
        ("BlipForQuestionAnswering", "openvino"),
    ],
)
def test_threads_get_what_one_thread_gets(
    folders: Callable[[Architecture, str], Path], architecture: Architecture, target: str
) -> None:
    for package in (
        () if target == "torch" else ("onnxscript", target.replace("onnx", "onnxruntime"))
    ):
        pytest.importorskip(package)
    model, ask = load(folders(architecture, target), threads=1), ASKS[architecture]
    numbers = range(ASKED)
    expected = [ask(model, n) for n in numbers]
    assert len({str(one) for one in expected}) > (1 if architecture.endswith("tion") else 5)
    assert _at_once(lambda n: ask(model, n), numbers) == expected


class Jealous:
    """An engine that keeps what it encoded in one place, is slow, and notices who comes between."""

    def __init__(self, engine: Any) -> None:
        self._engine, self._numbers, self._holds = engine, count(), -1
        self.mixed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, pixel_values: Any) -> Any:
        seen = self._engine.encode(pixel_values)
        self._holds = number = next(self._numbers)
        time.sleep(0.002)
        return _Seen(seen, number)

    def _read(self, name: str, seen: Any, *rest: Any, **how: Any) -> Any:
        self.mixed += seen.number != self._holds
        return getattr(self._engine, name)(seen.seen, *rest, **how)

    def embed_image(self, seen: Any) -> Any:
        return self._read("embed_image", seen)

    def match(self, seen: Any, *text: Any) -> Any:
        return self._read("match", seen, *text)

    def reason(self, seen: Any, *text: Any) -> Any:
        return self._read("reason", seen, *text)

    def ask(self, seen: Any, *text: Any, **how: Any) -> Any:
        return _Seen(self._read("ask", seen, *text, **how), seen.number)

    def start(self, seen: Any, rows: int) -> Any:
        self.mixed += seen.number != self._holds
        return _Session(self, self._engine.start(seen.seen, rows), seen.number)


class _Seen:
    def __init__(self, seen: Any, number: int) -> None:
        self.seen, self.number = seen, number


class _Session:
    def __init__(self, engine: Jealous, session: Any, number: int) -> None:
        self._engine, self._session, self._number = engine, session, number

    def step(self, ids: Any, order: Any) -> Any:
        self._engine.mixed += self._number != self._engine._holds
        return self._session.step(ids, order)


@pytest.mark.parametrize("architecture", list(ASKS))
def test_nobody_encodes_while_another_reads(
    folders: Callable[[Architecture, str], Path], architecture: Architecture
) -> None:
    model = load(folders(architecture, "torch"))
    engine = Jealous(model.engine)
    model.engine = engine
    _at_once(lambda n: ASKS[architecture](model, n), range(ASKED))
    if architecture == "BlipForQuestionAnswering":
        _at_once(lambda n: model.answer_each(IMAGES[n], TEXTS[:2]), range(ASKED))
    if architecture == "BlipForImageTextRetrieval":
        _at_once(lambda n: model.itm_logits(IMAGES[n], TEXTS[:2]), range(ASKED))
    assert engine.mixed == 0


def test_two_models_do_not_wait_for_each_other(
    folders: Callable[[Architecture, str], Path],
) -> None:
    folder = folders("BlipForConditionalGeneration", "torch")
    one, other = load(folder), load(folder)
    with one.turn, ThreadPoolExecutor(1) as pool:
        assert pool.submit(other.caption, IMAGES[0]).result(timeout=30).score < 0


@pytest.fixture(autouse=True)
def _small() -> None:
    torch.set_num_threads(1)
    np.random.seed(0)
