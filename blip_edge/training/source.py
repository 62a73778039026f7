"""What a run reads: a data set, shards of pairs, or both."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from blip_edge.data.dataset import Dataset
from blip_edge.data.parallel import in_order
from blip_edge.data.shards import Shards, captions_in, count_samples
from blip_edge.data.texts import texts_of, training_texts
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.progress import SILENT, Progress
from blip_edge.text import clean_caption
from blip_edge.training import processes
from blip_edge.training.batches import Web
from blip_edge.training.recipe import TrainRecipe

__all__ = ["Source", "digest_in"]

_TAR = re.compile(r"\.(tar|tar\.\w+|tgz)$")
_PAIRS = ("pretrain", "caption", "retrieval")
# A vocabulary is learned from so many captions of shards at most.
_ENOUGH = 1_000_000


@dataclass(frozen=True)
class Source:
    """At least one of the two is there."""

    dataset: Dataset | None
    web: Web | None = None

    @classmethod
    def open(
        cls,
        data: Path | str,
        web: Sequence[str],
        recipe: TrainRecipe,
        *,
        seed: int = 0,
        progress: Progress = SILENT,
    ) -> "Source":
        """Open `data`, a folder or the names of tars, and the tars of `web`; braces are expanded.

        The samples of tars are counted, which reads their headers; of several processes each
        counts some, and all must call this.

        Raises:
            UsageError: the task reads no pairs, or is judged without a folder to judge by.
            ArtifactError: something is missing, or the tars hold nothing.
        """
        alone = not Path(data).is_dir() and _TAR.search(str(data)) is not None
        names = [str(data), *web] if alone else list(web)
        if names and recipe.task not in _PAIRS:
            raise UsageError(
                f"tars hold pairs: {', '.join(_PAIRS)} read them, {recipe.task} cannot"
            )
        if alone and recipe.eval_every:
            raise UsageError(
                "eval_every needs a val split: give --data FOLDER and the tars as --web, or set it "
                "to 0"
            )
        if not names and recipe.web_parts > 1:
            raise UsageError("web_parts is of tars (--web); there are none")
        dataset = None if alone else Dataset.open(data)
        return cls(dataset, _counted(names, recipe, seed, progress) if names else None)

    def texts(self) -> Iterator[str]:
        """What people wrote of pictures, and beside that what else the data set holds; cleaned."""
        if self.dataset is not None:
            yield from training_texts(self.dataset)
        yield from self._web_captions(30)

    def read(self, *, max_words: int) -> Iterator[str]:
        """Whatever is read or must be said in any task, captions cut to `max_words`; of tars as
        many as a vocabulary is learned from.

        Raises:
            ArtifactError: there are no texts, or a file is damaged.
        """
        if self.dataset is not None:
            yield from texts_of(self.dataset, max_words=max_words)
        yield from self._web_captions(max_words)

    def _web_captions(self, max_words: int) -> Iterator[str]:
        if self.web is not None:
            captions = chain.from_iterable(map(captions_in, self.web.shards.paths))
            for caption in islice(captions, _ENOUGH):
                yield clean_caption(caption, max_words)

    def digest(self) -> str:
        """Of all that is read: a data set's annotations, and names and sizes of the rest."""
        parts = [part.digest() for part in (self.dataset, self._shards) if part is not None]
        return "+".join(parts)

    def identity(self) -> dict[str, Any]:
        """For a provenance: name, sha256 and how many items."""
        if self.dataset is None:
            return {"name": "shards"} | self._counts()
        found: dict[str, Any] = {"name": self.dataset.name, "sha256": self.dataset.digest()}
        if self.dataset.has("caption_train.json"):
            found["items"] = len(self.dataset.captions("train"))
        return found if self.web is None else found | {"web": self._counts()}

    @property
    def _shards(self) -> Shards | None:
        return None if self.web is None else self.web.shards

    def _counts(self) -> dict[str, Any]:
        assert self.web is not None
        shards = self.web.shards
        return {"sha256": shards.digest(), "items": self.web.total, "shards": len(shards.paths)}


def digest_in(identity: dict[str, Any]) -> str:
    """The `digest` of the source that a provenance holds the `identity` of."""
    parts = [part for part in (identity, identity.get("web")) if part]
    return "+".join(part["sha256"] for part in parts)


def _counted(names: list[str], recipe: TrainRecipe, seed: int, progress: Progress) -> Web:
    shards = Shards.open(names, seed=seed, parts=recipe.web_parts)
    mine = shards.paths[processes.rank() :: processes.world()]
    counting = progress.track(in_order(count_samples, mine), "counting pairs", total=len(mine))
    found = dict(zip(mine, counting, strict=True))
    counts = {path: count for part in processes.everyone(found) for path, count in part.items()}
    for part in range(shards.parts):
        if not any(counts[path] for path in shards.paths[part :: shards.parts]):
            raise ArtifactError(f"{names[0]}: the tars of epoch {part} hold no pairs")
    return Web(shards, counts)
