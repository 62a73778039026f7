"""`transformers` in the race of `cpu_inference.py`: eager or compiled, float32 or bf16."""

from pathlib import Path
from typing import Any

import numpy as np
from cpu_bundles import file_bytes
from cpu_tasks import ANSWER_TOKENS, CLASSES, NEW_TOKENS, READ, TASKS, THREADS, Inputs
from numpy.typing import NDArray

from blip_edge.text import Tokenizer


class HuggingFace:
    """A model of `transformers` and one task; pictures come as finished pixels, texts as ids."""

    def __init__(self, folder: Path, task: str, given: Inputs, *, half: bool, faster: bool) -> None:
        import torch
        import transformers

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        kind: Any = getattr(transformers, CLASSES[TASKS[task].model])
        self._model = kind.from_pretrained(folder / "hf").eval()
        pixels = torch.from_numpy(np.load(folder / "pixels.npy"))
        if half:
            self._model.to(torch.bfloat16)
            pixels = pixels.to(torch.bfloat16)
        if faster:
            for name in ("vision_model", "text_encoder", "text_decoder"):
                if (part := getattr(self._model, name, None)) is not None:
                    part.compile()
        self._pixels, self._task, self._torch = pixels, task, torch
        self._words = Tokenizer.from_vocab(folder / "hf" / "vocab.txt")
        self._ids = _ids(task, given)
        self._forced = torch.from_numpy(given.forced)
        self.file_bytes = file_bytes(folder / "hf", (".safetensors",)) // (2 if half else 1)

    def run(self) -> tuple[Any, dict[str, float]]:
        """The answer; its stages are not known."""
        ids = self._torch.from_numpy(self._ids)
        if self._task == "matching":
            return self._match(ids).float().tolist(), {}
        if self._task == "text":
            return self._embed(ids).float().tolist(), {}
        new = ANSWER_TOKENS if self._task == "vqa" else NEW_TOKENS
        said = self._model.generate(
            pixel_values=self._pixels,
            input_ids=ids,
            attention_mask=self._torch.ones_like(ids),
            num_beams=TASKS[self._task].beams,
            min_new_tokens=new,
            max_new_tokens=new,
            do_sample=False,
        )
        return self._words.decode(said[0, -new:].tolist()).split(), {}

    def _match(self, ids: Any) -> Any:
        """`forward` sees a picture once a text; whoever has several texts calls the parts."""
        model = self._model
        seen = model.vision_model(pixel_values=self._pixels)[0].expand(READ, -1, -1)
        read = model.text_encoder(
            input_ids=ids,
            attention_mask=self._torch.ones_like(ids),
            encoder_hidden_states=seen,
            encoder_attention_mask=self._torch.ones(seen.shape[:2], dtype=self._torch.long),
        )
        return model.itm_head(read[0][:, 0])

    def _embed(self, ids: Any) -> Any:
        model = self._model
        read = model.text_encoder(input_ids=ids, attention_mask=self._torch.ones_like(ids))
        return self._torch.nn.functional.normalize(model.text_proj(read[0][:, 0]), dim=-1)

    def forced(self) -> NDArray[np.float32]:
        """(T, V) logits after each of the forced tokens."""
        seen = self._model.vision_model(pixel_values=self._pixels)[0]
        out = self._model.text_decoder(input_ids=self._forced, encoder_hidden_states=seen)
        logits: NDArray[np.float32] = out.logits[0].float().numpy()
        return logits


def _ids(task: str, given: Inputs) -> NDArray[np.int64]:
    match task:
        case "matching":
            return given.read_ids
        case "text":
            return given.embedded_ids
        case "vqa":
            return given.question_ids
    # `generate` drops the last token, which it takes for [SEP].
    return np.concatenate([given.prompt, np.full((1, 1), 3)], axis=1)
