"""Who knows whether a text is right: the key of the drawn world's web texts, and its scenes."""

from pathlib import Path

from blip_edge.artifact import read_json
from blip_edge.data.dataset import Dataset
from blip_edge.data.shapes.scene import Scene
from blip_edge.data.shapes.truth import judge
from blip_edge.evaluation.capfilt.summary import Truth
from blip_edge.evaluation.capfilt.texts import Text

__all__ = ["truth_of"]


def truth_of(dataset: Dataset | None) -> Truth:
    """What `web_train_key.json` says of the web's texts, and `scenes_web.json` of new ones.

    Neither is asked before the filter has decided; of other data sets nobody knows anything.
    """
    if dataset is None or not dataset.has("web_train_key.json"):
        return lambda picture, text: None
    web = dataset.web()
    key = read_json(dataset.folder / "web_train_key.json")
    clean = {
        (row.image, caption): bool(known["clean"])
        for row, known in zip(web, key, strict=True)
        for caption in row.captions
    }
    scenes = _scenes(dataset.folder / "scenes_web.json")

    def right(picture: str, text: Text) -> bool | None:
        if text.source == "web":
            return clean.get((picture, text.caption))
        scene = scenes.get(picture)
        return None if scene is None else judge(text.caption, scene).true

    return right


def _scenes(path: Path) -> dict[str, Scene]:
    if not path.is_file():
        return {}
    return {name: Scene.from_json(value) for name, value in read_json(path).items()}
