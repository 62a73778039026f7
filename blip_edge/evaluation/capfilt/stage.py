"""`capfilt`: noisy web pictures to the same pictures with better texts."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from time import perf_counter
from typing import Any

from blip_edge import __version__
from blip_edge.artifact import (
    Provenance,
    begin_run,
    sha256_folder,
    write_json,
    write_provenance,
    writing,
)
from blip_edge.data.dataset import Dataset
from blip_edge.data.shards import expand
from blip_edge.errors import ArtifactError, UsageError
from blip_edge.evaluation.capfilt.on_ray import do_on_ray
from blip_edge.evaluation.capfilt.parts import (
    Found,
    Part,
    Tar,
    is_done,
    read_part,
    row_parts,
    tar_of,
)
from blip_edge.evaluation.capfilt.recipe import CapfiltRecipe
from blip_edge.evaluation.capfilt.summary import Tally
from blip_edge.evaluation.capfilt.truth import truth_of
from blip_edge.evaluation.capfilt.work import Models, do_parts, share_parts
from blip_edge.progress import SILENT, Progress

__all__ = ["capfilt"]

# What the output has of its own, or what is no longer true of it.
_REPLACED = frozenset(
    {
        "dataset.json",
        "metrics.json",
        "provenance.json",
        "skipped.jsonl",
        "texts.jsonl",
        "capfilt.json",
        "web_train.json",
        "web_train_key.json",
    }
)

# Pictures after which a share of bad ones says something of all.
_ENOUGH = 1000


def capfilt(
    data: Path | str,
    output: Path,
    recipe: CapfiltRecipe | None = None,
    *,
    captioners: Sequence[Path] = (),
    filters: Sequence[Path] = (),
    resume: bool = False,
    processes: int = 1,
    ray: str | None = None,
    threads: int | None = None,
    seed: int = 0,
    force: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write new texts for the pictures of `data`, and leave out those that do not fit.

    The captioners write, the filters judge the web's texts and the new ones. Without captioners
    texts are only filtered, without filters all are kept. Pairs of people's pass as they are.

    Args:
        data: a data set with `web_train.json`, or the names of tars (braces are expanded).
        output: of a data set the data set to write, with `web_train.json` of the texts that stay;
            of tars a folder with a tar for each. Both get `texts.jsonl`, every text with where it
            comes from and what the filters said, and `capfilt.json`, the figures.
        recipe: how many texts, how they are written, and which stay; its defaults if None.
        captioners: models or bundles that caption.
        filters: models or bundles that match texts with pictures.
        resume: go on with a run that was killed; its finished parts are in `OUT.parts`.
        processes: that work side by side, each with the models; with `ray` at most so many that
            write and so many that judge.
        ray: the address of a Ray cluster that does the work, "auto" for the one that this machine
            belongs to, or "local" for one that is started here and ends with the run. All its
            machines see `data`, `output` and the models under the same paths.
        threads: of each process; the engine's own choice if None.
        seed: of the words that are drawn.
        force: replace `output` if it is there.
        progress: is told how far it is.

    Raises:
        UsageError: neither captioners nor filters.
        ArtifactError: a model that cannot do its part, nothing to bootstrap, too many unreadable
            pictures, or another run's parts.
        MissingExtraError: the package that runs a model, or Ray, is not installed.
    """
    started, recipe = perf_counter(), recipe or CapfiltRecipe()
    writers, judges = list(map(Path, captioners)), list(map(Path, filters))
    if not writers and not judges:
        raise UsageError("give a captioner, a filter, or both")
    if processes < 1:
        raise UsageError(f"processes must be at least 1, got {processes}")
    dataset, parts = _source(data, recipe)
    digests = {folder: sha256_folder(folder) for folder in (*writers, *judges)}
    models = Models(tuple(writers), tuple(judges), recipe, seed, digests, threads)
    bootstrap = models.open()  # what is wrong with a model shows before anything is done
    with writing(output, force=force, reads=(data, *writers, *judges)) as draft:
        folder = Path(output).with_name(f"{Path(output).name}.parts")
        begin_run(folder, _identity(parts, dataset, recipe, digests, seed), resume=resume)
        todo = [part for part in parts if not is_done(folder, part.number)]
        if len(todo) < len(parts):
            progress.say(f"{len(parts) - len(todo)} of {len(parts)} parts are there already")
        told: dict[str, Any] = {"progress": progress}
        if ray is not None:
            done = do_on_ray(
                *(todo, folder, models, bootstrap.sizes), address=ray, actors=processes, **told
            )
        elif processes > 1:
            done = share_parts(todo, folder, models, processes=processes, **told)
        else:
            done = do_parts(todo, folder, bootstrap, **told)
        try:
            _watch(done, folder, recipe.max_bad)
        except BaseException:
            if not any(is_done(folder, part.number) for part in parts):
                shutil.rmtree(folder)  # there is nothing to go on with
            raise
        summary = _assemble(draft, folder, parts, dataset, recipe)
        write_json(draft / "capfilt.json", {**summary, "recipe": asdict(recipe)})
        write_provenance(
            draft,
            Provenance(
                verb="capfilt",
                recipe={**asdict(recipe), "seed": seed},
                parents=[{"path": str(one), "sha256": sha} for one, sha in digests.items()],
                data=_named(dataset, parts),
                version=__version__,
                seconds=round(perf_counter() - started, 3),
            ),
        )
    shutil.rmtree(folder)
    return output


def _source(data: Path | str, recipe: CapfiltRecipe) -> tuple[Dataset | None, list[Part]]:
    """The data set, if it is one, and its parts."""
    if Path(data).is_dir() or ".tar" not in str(data):
        dataset = Dataset.open(data)
        return dataset, [*row_parts(dataset, recipe.part)]
    return None, [Tar(number, path) for number, path in enumerate(expand([str(data)]))]


def _identity(
    parts: Sequence[Part],
    dataset: Dataset | None,
    recipe: CapfiltRecipe,
    digests: dict[Path, str],
    seed: int,
) -> dict[str, Any]:
    """What makes a run this one; how much may be bad does not."""
    return {
        "data": _named(dataset, parts),
        "recipe": {k: v for k, v in asdict(recipe).items() if k != "max_bad"},
        "models": list(digests.values()),
        "seed": seed,
    }


def _named(dataset: Dataset | None, parts: Sequence[Part]) -> dict[str, Any]:
    if dataset is not None:
        return {"name": dataset.name, "sha256": dataset.digest()}
    tars = [part.path for part in parts if isinstance(part, Tar)]
    return {"name": "shards", "files": [[path.name, path.stat().st_size] for path in tars]}


def _watch(done: Iterable[Part], folder: Path, max_bad: float) -> None:
    """Have the parts done, and stop early when far too many pictures are bad."""
    seen, bad = 0, list[Found]()
    for part in done:
        for found in read_part(folder, part.number):
            seen += 1
            bad += [found] if found.skipped is not None else []
        if seen >= _ENOUGH and len(bad) > max_bad * seen:
            raise _too_many(bad, seen, max_bad)


def _too_many(bad: Sequence[Found], pictures: int, max_bad: float) -> ArtifactError:
    return ArtifactError(
        f"{len(bad)} of {pictures} pictures cannot be used, more than {max_bad:.1%} (max_bad); the "
        f"first: {bad[0].skipped}. What was done is kept: raise max_bad and go on with --resume"
    )


def _assemble(
    draft: Path,
    folder: Path,
    parts: Sequence[Part],
    dataset: Dataset | None,
    recipe: CapfiltRecipe,
) -> dict[str, Any]:
    """Put the parts together; the figures of all."""
    counted, rows = Tally(truth_of(dataset)), list[dict[str, Any]]()
    bad = list[Found]()
    with (draft / "texts.jsonl").open("w", encoding="utf-8") as out:
        for found in _all(folder, parts):
            counted.add(found)
            if found.skipped is not None:
                bad.append(found)
            for text in found.texts:
                row = {"image": found.name, **text.to_json()}
                out.write(f"{json.dumps(row, ensure_ascii=False)}\n")
                if text.kept and dataset is not None:
                    rows.append(row)
    summary = counted.to_json()
    _judge(bad, summary["pictures"], recipe.max_bad, draft)
    if dataset is not None:
        _write_data(draft, dataset, rows)
    else:
        _write_tars(draft, folder, parts, summary)
    return summary


def _all(folder: Path, parts: Sequence[Part]) -> Iterator[Found]:
    for part in parts:
        yield from read_part(folder, part.number)


def _judge(bad: Sequence[Found], pictures: int, max_bad: float, draft: Path) -> None:
    """List what was left out.

    Raises:
        ArtifactError: it is too much.
    """
    if not bad:
        return
    with (draft / "skipped.jsonl").open("w", encoding="utf-8") as out:
        for one in bad:
            line = {"image": one.name, "reason": one.skipped}
            out.write(f"{json.dumps(line, ensure_ascii=False)}\n")
    if len(bad) > max_bad * pictures:
        raise _too_many(bad, pictures, max_bad)


def _write_data(draft: Path, dataset: Dataset, rows: Sequence[dict[str, Any]]) -> None:
    """The data set again, with other web texts; its pictures are linked to, not copied."""
    if not rows:
        raise ArtifactError("no text is left: lower the threshold, or look at the filter")
    write_json(draft / "web_train.json", list(rows))
    for path in sorted(dataset.folder.glob("*.json*")):
        if path.name not in _REPLACED and not path.name.startswith("."):
            shutil.copyfile(path, draft / path.name)
    for name, source in (("images", dataset.image_root), ("videos", "videos")):
        if (there := dataset.folder / source).is_dir():
            (draft / name).symlink_to(there.resolve())
    kept = {field.name: getattr(dataset, field.name) for field in fields(dataset)}
    kept |= {"image_root": "images", "counts": {**dataset.counts, "web_train": len(rows)}}
    write_json(draft / "dataset.json", {k: v for k, v in kept.items() if k != "folder"})


def _write_tars(draft: Path, folder: Path, parts: Sequence[Part], summary: dict[str, Any]) -> None:
    """The tars of all parts, which stay where they are until the whole output is there."""
    for part in parts:
        if isinstance(part, Tar):
            _link(tar_of(folder, part.number), tar_of(draft, part.number))
    texts = summary["web"]["kept"] + summary["synthetic"]["kept"]
    write_json(
        draft / "dataset.json",
        {
            "name": "shards",
            "version": "1",
            "license": "that of the shards",
            "counts": {"tars": len(parts), "texts": texts},
        },
    )


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # a file system without second names
        shutil.copyfile(source, target)
