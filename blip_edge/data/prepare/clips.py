"""MSRVTT and MSVD: clips, what happens in them, and questions about them.

Formats that are read, as a JSON list or a document a line:

* BLIP's `msrvtt_test.jsonl`: `clip_name`, `caption`.
* MSRVTT-QA's and MSVD-QA's `*_qa.json`: `id`, `video_id` (a number), `question`, `answer`; other
  copies say `video` or `video_id` with the clip's file.

MSRVTT names its clips `video7010`. MSVD's questions name them `vid1`, its clips are named after
their source: the official list `<name> vid1` translates.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from blip_edge.data.dataset import CLIP_ENDINGS
from blip_edge.data.draft import Draft, Entry
from blip_edge.data.prepare.media import Pictures
from blip_edge.data.prepare.sources import entries, has, load, split_of, spoken, unknown
from blip_edge.data.rows import Fields

__all__ = ["msrvtt", "msvd"]


def msrvtt(sources: Sequence[Path], clips: Pictures, draft: Draft) -> None:
    """Write video_retrieval_*.jsonl and video_qa_*.jsonl of MSRVTT."""
    _write(sources, clips, draft, prefix="video", names={})


def msvd(
    sources: Sequence[Path], clips: Pictures, draft: Draft, *, mapping: Mapping[str, str]
) -> None:
    """Write video_retrieval_*.jsonl and video_qa_*.jsonl of MSVD."""
    names = {number: name for name, number in mapping.items()}
    _write(sources, clips, draft, prefix="vid", names=names)


def _write(
    sources: Sequence[Path], clips: Pictures, draft: Draft, *, prefix: str, names: dict[str, str]
) -> None:
    for path in sources:
        value = load(path)
        if not isinstance(value, list):
            raise unknown(path, "rows of captions, rows of questions")
        asked = any(has(row, "question") for row in value)
        read = partial(_question if asked else _caption, clips=clips, prefix=prefix, names=names)
        file = f"video_{'qa' if asked else 'retrieval'}_{split_of(path)}.jsonl"
        draft.rows(file, entries(enumerate(value), read, str(path)), total=len(value))


def _caption(fields: Fields, *, clips: Pictures, prefix: str, names: dict[str, str]) -> Entry:
    caption = spoken(fields, "caption", fields.text("caption"))
    return ({"clip_name": clips.find(_clip(fields, prefix, names)), "caption": caption},)


def _question(fields: Fields, *, clips: Pictures, prefix: str, names: dict[str, str]) -> Entry:
    question = spoken(fields, "question", fields.text("question"))
    key = "question_id" if fields.has("question_id") else "id"
    # Some copies have no numbers; the place in the file is as good a name.
    number = fields.text(key, fields.where.rpartition(" ")[2])
    row = {"question_id": number, "clip_name": clips.find(_clip(fields, prefix, names))}
    return ({**row, "question": question, "answer": fields.text("answer")},)


def _clip(fields: Fields, prefix: str, names: dict[str, str]) -> str:
    key = next((key for key in ("clip_name", "video") if fields.has(key)), "video_id")
    name = fields.text(key)
    if name.isdigit():
        name = f"{prefix}{name}"
    path = PurePosixPath(name)
    name = str(path.with_suffix("")) if path.suffix.lower() in CLIP_ENDINGS else name
    return names.get(name, name)
