"""Draw a world: every picture and every annotation file of a data set, from a recipe and a seed."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blip_edge.artifact import write_json, writing
from blip_edge.data.dataset import Dataset
from blip_edge.data.shapes.clips import clip
from blip_edge.data.shapes.dialogs import visdial
from blip_edge.data.shapes.draw import draw
from blip_edge.data.shapes.language import captions
from blip_edge.data.shapes.pairs import sentences
from blip_edge.data.shapes.queries import attributes, queries
from blip_edge.data.shapes.questions import answer_list, questions
from blip_edge.data.shapes.recipe import ShapesRecipe
from blip_edge.data.shapes.web import web
from blip_edge.data.shapes.world import Picture, Purpose, Split, World
from blip_edge.progress import SILENT, Progress

__all__ = ["make"]

_VERSION = "1"


def make(
    output: Path | str,
    recipe: ShapesRecipe,
    *,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Write the drawn world to `output`; the same recipe and seed give the same bytes.

    Raises:
        ArtifactError: `output` exists and `force` is off, or it cannot be written.
    """
    world = World(recipe, seed)
    numbers: dict[Split, int] = {
        "train": recipe.train,
        "val": recipe.val,
        "test": recipe.test,
        "test_unseen": recipe.unseen,
        "web": recipe.web,
    }
    with writing(Path(output), force=force) as draft:
        pictures = {
            split: _draw_split(draft / "images", world, split, number, progress)
            for split, number in numbers.items()
            if number
        }
        files = _captions_and_scenes(world, pictures) | _tasks(world, pictures)
        for name, value in progress.track(files.items(), "writing annotations", total=len(files)):
            write_json(draft / name, value)
        if recipe.clips:
            _clips(draft, world, progress)
        counts: dict[str, int] = {split: len(found) for split, found in pictures.items()}
        write_json(draft / "dataset.json", _description(recipe, seed, counts))
    return Dataset.open(output)


def _draw_split(
    root: Path, world: World, split: Split, number: int, progress: Progress
) -> list[Picture]:
    (root / split).mkdir(parents=True)
    pictures = []
    for index in progress.track(range(number), f"drawing {split}", total=number):
        picture = world.picture(split, index)
        rng = world.rng(split, index, Purpose.PAINT)
        recipe = world.recipe
        image = draw(picture.scene, size=recipe.image_size, noise=recipe.noise, rng=rng)
        # Noise hardly compresses: more effort than this makes the files no smaller.
        image.save(root / picture.image, compress_level=1)
        pictures.append(picture)
    return pictures


def _description(recipe: ShapesRecipe, seed: int, counts: dict[str, int]) -> dict[str, Any]:
    return {
        "name": "shapes",
        "version": _VERSION,
        "license": "CC0-1.0",
        "image_root": "images",
        "counts": counts,
        "recipe": asdict(recipe),
        "seed": seed,
    }


def _captions_and_scenes(world: World, pictures: dict[Split, list[Picture]]) -> dict[str, Any]:
    """Names and contents of the files that every split has."""
    files: dict[str, Any] = {}
    for split, found in pictures.items():
        files[f"scenes_{split}.json"] = {
            picture.image: picture.scene.to_json() for picture in found
        }
        if split == "web":
            files["web_train.json"], files["web_train_key.json"] = web(world, found)
        else:
            files[f"caption_{split}.json"] = _captions(world, found, apart=split == "train")
    return files


def _tasks(world: World, pictures: dict[Split, list[Picture]]) -> dict[str, Any]:
    """Names and contents of the files of single tasks, in their official splits."""
    train, val, test = pictures["train"], pictures["val"], pictures["test"]
    files: dict[str, Any] = {"answer_list.json": answer_list(world)}
    for split, found in (("train", train), ("val", val), ("test", test)):
        files[f"vqa_{split}.json"] = questions(world, found)
    for split, found in (("train", train), ("dev", val), ("test", test)):
        files[f"nlvr_{split}.json"] = sentences(world, found, split)
    for split, found in (("train", train), ("val", val)):
        dialogs, dense = visdial(world, found[: world.recipe.dialogs], split)
        files[f"visdial_{split}.json"], files[f"visdial_{split}_dense.json"] = dialogs, dense
    files["attributes_test.json"] = attributes(world, test)
    files["pairs_test.json"] = queries(world, test)
    return files


def _clips(draft: Path, world: World, progress: Progress) -> None:
    (draft / "videos").mkdir()
    lines: dict[str, list[Any]] = {"video_retrieval_test.jsonl": [], "video_qa_test.jsonl": []}
    number = world.recipe.clips
    for index in progress.track(range(number), "drawing clips", total=number):
        row, asked = clip(world, world.picture("clips", index), draft / "videos")
        lines["video_retrieval_test.jsonl"].append(row)
        lines["video_qa_test.jsonl"] += asked
    for name, rows in lines.items():
        text = "".join(f"{json.dumps(row)}\n" for row in rows)
        (draft / name).write_text(text, encoding="utf-8")


def _captions(world: World, pictures: list[Picture], *, apart: bool) -> list[dict[str, Any]]:
    """Rows of caption files: one a caption when `apart`, else one a picture."""
    rows: list[dict[str, Any]] = []
    for picture in pictures:
        rng = world.rng(picture.split, picture.index, Purpose.CAPTIONS)
        texts = captions(picture.scene, world.recipe, rng)
        for caption in texts if apart else [list(texts)]:
            rows.append({"image": picture.image, "caption": caption, "image_id": picture.image_id})
    return rows
