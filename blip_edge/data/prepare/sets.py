"""The data sets that can be prepared: what is known of each before its files are opened.

Licences are as the owners state them; where that is not certain, the set's page is to be asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from blip_edge.data.prepare.attributes import ovad
from blip_edge.data.prepare.captions import coco, flickr30k, nocaps
from blip_edge.data.prepare.clips import msrvtt, msvd
from blip_edge.data.prepare.dialogs import visdial
from blip_edge.data.prepare.questions import vqa
from blip_edge.data.prepare.sentences import nlvr2
from blip_edge.data.prepare.web import web

__all__ = ["SETS", "Name", "OfficialSet"]

Name = Literal[
    "coco",
    "flickr30k",
    "vqa",
    "nlvr2",
    "nocaps",
    "visdial",
    "msrvtt",
    "msvd-qa",
    "cc",
    "ovad",
]

_COCO = "annotations CC BY 4.0; pictures under Flickr's terms of use"
_ASK = "see the data set's page"


@dataclass(frozen=True, kw_only=True)
class OfficialSet:
    """A data set as its owners publish it."""

    write: Callable[..., None]
    """Writes the annotation files: (sources, pictures or clips, draft, options by name)."""
    names: tuple[str, ...]
    """What the official files are called, for when a folder is given."""
    version: str = "1"
    license: str = _ASK
    options: tuple[str, ...] = ()
    """The options that `write` takes."""
    clips: bool = False
    """Clips instead of pictures."""


SETS: dict[Name, OfficialSet] = {
    "coco": OfficialSet(
        write=coco,
        names=(
            "dataset_coco.json",
            *(f"coco_karpathy_{split}.json" for split in ("train", "val", "test")),
            "captions_*.json",
        ),
        version="2014",
        license=_COCO,
    ),
    "flickr30k": OfficialSet(
        write=flickr30k,
        names=(
            "dataset_flickr30k.json",
            *(f"flickr30k_{split}.json" for split in ("train", "val", "test")),
        ),
    ),
    "vqa": OfficialSet(
        write=vqa,
        names=(
            *("v2_*questions.json", "v2_*annotations.json", "question_answers.json"),
            *("vqa_*.json", "vg_qa.json", "answer_list.json"),
        ),
        version="2",
        license=_COCO,
        options=("min_answers",),
    ),
    "nlvr2": OfficialSet(
        write=nlvr2, names=("train.json", "dev.json", "test1.json", "nlvr_*.json"), version="2"
    ),
    "nocaps": OfficialSet(write=nocaps, names=("nocaps_*.json",), version="0.1"),
    "visdial": OfficialSet(
        write=visdial,
        names=("visdial_1.0_train*.json", "visdial_1.0_val*.json"),
        version="1.0",
        license=_COCO,
    ),
    "msrvtt": OfficialSet(write=msrvtt, names=("msrvtt_*.jsonl", "*_qa.json"), clips=True),
    "msvd-qa": OfficialSet(
        write=msvd, names=("msvd_*.jsonl", "*_qa.json"), options=("mapping",), clips=True
    ),
    "cc": OfficialSet(
        write=web,
        names=("*.tsv", "ccs_*.json", "laion_*.json", "sbu-captions-all.json"),
        options=("mapping",),
    ),
    "ovad": OfficialSet(write=ovad, names=("ovad*.json",)),
}
