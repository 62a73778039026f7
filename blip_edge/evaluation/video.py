"""Clips of a data set as an evaluation opens them: some frames of each."""

from blip_edge.data import Dataset
from blip_edge.data.video import frames
from blip_edge.evaluation.album import Media
from blip_edge.evaluation.result import EvalSettings
from blip_edge.preprocess import Clip

__all__ = ["Reel"]


class Reel(Media[Clip]):
    """Opens clips by their names, and keeps count of those that do not open.

    Args:
        dataset: whose clips they are.
        clips: how many there are.
        how: how many frames are taken, and where.
        frames: how many when `how` does not say.
    """

    _kind = "clips"

    def __init__(self, dataset: Dataset, clips: int, how: EvalSettings, *, frames: int) -> None:
        super().__init__(dataset, clips, how.max_bad, how.crew)
        self.frames = how.frames or frames
        self._sampling = how.sampling

    def _read(self, name: str) -> Clip:
        path = self._dataset.clip_path(name)
        return Clip(tuple(frames(path, self.frames, sampling=self._sampling)))
