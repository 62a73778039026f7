"""Every built-in recipe is one that its verb can read, and BLIP's own can be trained by."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path

import pytest

from blip_edge.cli.recipes import VERBS, built_in, recipe_class, stage_of
from blip_edge.recipe import as_toml, find, load

ROOT = Path(__file__).parents[2]
FOLDERS = (
    *("train", "train/capfilt", "distill", "distill/students", "quantize", "exporters"),
    *("benchmarks", "data"),
)

# As the paper prints them (section 4.1 and table 14): side, rows of a step, epochs, peak rate; and
# the processes that the recipe's first line names.
PUBLISHED = {
    "pretrain-14m-base": (224, 2880, 20, 3e-4, 32),
    "pretrain-14m-large": (224, 2400, 20, 2e-4, 32),
    "pretrain-129m-base": (224, 2880, 20, 3e-4, 32),
    "pretrain-129m-large": (224, 2400, 20, 2e-4, 32),
    "coco-caption-base": (384, 256, 5, 1e-5, 8),
    "coco-caption-large": (384, 256, 5, 2e-6, 8),
    "coco-retrieval-base": (384, 256, 6, 1e-5, 8),
    "coco-retrieval-large": (384, 256, 6, 5e-6, 16),
    "flickr30k-retrieval-base": (384, 256, 6, 1e-5, 8),
    "flickr30k-retrieval-large": (384, 256, 6, 5e-6, 16),
    "vqa-base": (480, 256, 10, 2e-5, 16),
    "nlvr2-base": (384, 256, 15, 3e-5, 16),
    "visdial-base": (384, 240, 20, 2e-5, 8),
}
MADE = ("shapes", "stamps", "openmoji", "picturebook", "openclipart")
TINY = (
    *("steps=1", "batch=2", "image_size=32", "queue_size=8", "workers=1"),
    *("vision_layers=1", "vision_width=16", "vision_heads=2", "embed_dim=8"),
    *("text_layers=1", "text_width=16", "text_heads=2", "vocab_size=120"),
)


@pytest.mark.parametrize(("verb", "name"), built_in(), ids=lambda text: str(text))
def test_each_recipe_loads_into_its_class(verb: str, name: str) -> None:
    cls = recipe_class(verb)
    recipe = load(cls, stage_of(verb), name)
    assert isinstance(recipe, cls)
    if verb not in ("bench", "export"):  # these see no data
        assert "-" in name, "recipes are named <data>-<what>"


@pytest.mark.parametrize("verb", VERBS)
def test_printed_recipes_read_back_the_same(verb: str, tmp_path: Path) -> None:
    cls = recipe_class(verb)
    assert is_dataclass(cls)
    names = [name for of, name in built_in() if of == verb]
    for number, recipe in enumerate([load(cls, stage_of(verb), name) for name in [None, *names]]):
        path = tmp_path / f"{number}.toml"
        path.write_text(as_toml(cls, recipe))
        assert load(cls, stage_of(verb), path) == recipe


def test_every_recipe_file_is_found() -> None:
    files = {path.stem for folder in FOLDERS for path in (ROOT / folder).glob("*.toml")}
    assert files == {name for _, name in built_in()}
    assert files


def test_every_recipe_of_blip_is_held_to_the_paper() -> None:
    recipes = {name for verb, name in built_in() if verb == "train"}
    # What `data make` draws has recipes of its own.
    assert {name for name in recipes if name.split("-")[0] not in MADE} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_of_blip_say_what_the_paper_says(name: str) -> None:
    size, rows, epochs, lr, processes = PUBLISHED[name]
    recipe = load(recipe_class("train"), "train", name)
    assert (recipe.image_size, recipe.epochs, recipe.lr) == (size, epochs, lr)
    assert recipe.batch * recipe.accumulate * processes == rows
    said = re.search(r"on (\d+) GPUs: (\d+) \w+ a step", find("train", name).read_text())
    assert said is not None and tuple(map(int, said.groups())) == (processes, rows)
    large = name.endswith("-large")
    assert recipe.drop_path == (0.1 if large or name in ("vqa-base", "nlvr2-base") else 0)
    if recipe.task == "pretrain":
        assert recipe.web_parts == (5 if "129m" in name else 1)
        towers = (recipe.vision_layers, recipe.vision_width, recipe.vision_heads)
        assert towers == ((24, 1024, 16) if large else (12, 768, 12))
    if recipe.task in ("pretrain", "retrieval"):
        # Negatives come out of a batch: several small ones are not one large one.
        assert recipe.accumulate == 1
        assert rows % processes == 0 and recipe.queue_size % rows == 0


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures with rows of every task."""
    from blip_edge.data.shapes import ShapesRecipe, make

    few = {"train": 8, "val": 2, "test": 2, "unseen": 0, "web": 0, "clips": 0}
    how = ShapesRecipe(**few, image_size=32, questions=1, dialogs=1)
    return make(tmp_path_factory.mktemp("recipes") / "data", how).folder


@pytest.fixture(scope="module")
def tars(drawn: Path) -> str:
    """The drawn pictures as five shards, by the name of all."""
    from blip_edge.data import Dataset

    data = Dataset.open(drawn)
    for number, row in enumerate(data.captions("train")[:10]):
        picture = data.image_path(row.image).read_bytes()
        caption = json.dumps({"caption": row.captions[0]}).encode()
        with tarfile.open(drawn / f"web-{number % 5}.tar", "a") as shard:
            for ending, content in (("png", picture), ("json", caption)):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    return str(drawn / "web-{0..4}.tar")


Trained = Callable[[str, Path | None], Path]


@pytest.fixture(scope="module")
def trained(drawn: Path, tars: str, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Train one step by a recipe made tiny, and say where the model is."""
    pytest.importorskip("torch")
    from blip_edge.training import train

    def by(name: str, init: Path | None) -> Path:
        recipe = load(recipe_class("train"), "train", name, TINY)
        web = (tars,) if "129m" in name else ()
        return train(drawn, tmp_path_factory.mktemp("model") / name, recipe, web=web, init=init)

    return by


@pytest.fixture(scope="module")
def pretrained(trained: Trained) -> Path:
    """What the other tasks start from."""
    return trained("pretrain-14m-base", None)


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipes_of_blip_train(name: str, pretrained: Path, trained: Trained) -> None:
    from blip_edge.artifact import read_json

    made = trained(name, None if name.startswith("pretrain-") else pretrained)
    assert read_json(made / "config.json")["vision_config"]["image_size"] == 32
