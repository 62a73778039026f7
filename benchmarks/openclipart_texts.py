"""Real noisy texts: CapFilt on the titles of openclipart, by the models of the picture book.

    python benchmarks/openclipart_texts.py -o runs/picturebook   # after picturebook_curves.py
    python benchmarks/openclipart_texts.py --table               # record -> train/README.md

Nobody knows which titles are right. What can be known is whether the filter, which saw none of
these drawings, prefers a drawing's own title to another drawing's: by the probability of its
matching head, and by the cosine of its embeddings. The texts are then filtered by what it is better
at. The record is train/openclipart.json.
"""

import json
import random
from pathlib import Path
from typing import Any

from runs import ROOT, RunOrTable, between, blip_edge, read

RECORD = ROOT / "train" / "openclipart.json"
PAGE = ROOT / "train" / "README.md"
BEGIN = "<!-- openclipart: written by benchmarks/openclipart_texts.py -->\n"
END = "<!-- /openclipart -->\n"
MIN_ITC = 0.3
CAPTIONER, FILTER = "caption-towers-onnx", "retrieval-towers-onnx"
PAIRS = 500
SHOWN = 8
SCORES = {"itm": "probability of the matching head", "itc": "cosine of the embeddings"}


def run(folder: Path) -> None:
    """Make what is not there yet."""
    if not (folder / "openclipart").exists():
        blip_edge(folder, ["data", "make", "openclipart", "-o", "openclipart"])
    for bundle in (CAPTIONER, FILTER):
        if not (folder / bundle).exists():
            model = bundle.removesuffix("-onnx")
            words = ["export", model, "--target", "onnx", "--precision", "fp32", "-o", bundle]
            blip_edge(folder, words)
    if not (folder / "openclipart-texts").exists():
        words = ["capfilt", "--captioner", CAPTIONER, "--filter", FILTER, "--data", "openclipart"]
        words += ["--recipe", "web-beams", "--set", "threshold=0", "--set", f"min_itc={MIN_ITC}"]
        blip_edge(folder, [*words, "-o", "openclipart-texts"])
    if not (page := folder / "openclipart.html").exists():
        blip_edge(folder, ["report", "openclipart-texts", "-o", page.name])
    if not (found := folder / "openclipart-preferred.json").exists():
        found.write_text(json.dumps(preferred(folder)), encoding="utf-8")


def preferred(folder: Path) -> dict[str, Any]:
    """How often a drawing's own title comes before another's, by each score, in percent."""
    from PIL import Image

    from blip_edge.data.dataset import Dataset
    from blip_edge.metrics import Bootstrap
    from blip_edge.runtime.load import load

    data = Dataset.open(folder / "openclipart")
    titles = {row.image: row.captions[0] for row in reversed(data.web())}
    chance = random.Random(0)
    asked = chance.sample(sorted(titles), PAIRS)
    model = load(folder / FILTER)
    wins: dict[str, list[float]] = {score: [] for score in SCORES}
    for image in asked:
        other = chance.choice([title for title in titles.values() if title != titles[image]])
        with Image.open(data.image_path(image)) as picture:
            own, wrong = model.match(picture.convert("RGB"), [titles[image], other])
        for score, won in wins.items():
            won.append(100.0 * (getattr(own, score) > getattr(wrong, score)))
    found: dict[str, Any] = {"pairs": PAIRS}
    for score, won in wins.items():
        drawn = Bootstrap().mean(won)
        interval = [round(drawn.low, 2), round(drawn.high, 2)]
        found[score] = {"value": round(sum(won) / len(won), 2), "interval": interval}
    return found


def record(folder: Path) -> dict[str, Any]:
    """What was found."""
    made = read(folder / "openclipart-texts" / "capfilt.json")
    sources = {
        source: {key: made[source][key] for key in ("texts", "kept", "diversity")}
        for source in ("web", "synthetic")
    }
    examples = {
        name: [
            {key: row[key] for key in ("caption", "source", "itc")}
            for row in made["examples"][name][:SHOWN]
        ]
        for name in ("kept", "dropped")
    }
    header = read(folder / "openclipart" / "dataset.json")
    return {
        "version": header["version"],
        "min_itc": MIN_ITC,
        "pictures": made["pictures"],
        "without_text": made["without_text"],
        "preferred": read(folder / "openclipart-preferred.json"),
        **sources,
        "examples": examples,
    }


def table(kept: dict[str, Any]) -> str:
    """What a record says."""
    lines = [
        "| of a drawing's own title and another's, the filter prefers its own | % |",
        "|---|---|",
    ]
    for score, words in SCORES.items():
        found = kept["preferred"][score]
        low, high = found["interval"]
        lines.append(f"| by the {words} | {found['value']:.1f} ({low:.1f} to {high:.1f}) |")
    told = []
    for source, name in (("web", "titles"), ("synthetic", "new captions")):
        kind = kept[source]
        share = kind["diversity"]["distinct_captions"]
        told.append(
            f"{kind['kept']:,} of {kind['texts']:,} {name} stay ({share:.0%} of all are different)"
        )
    shown = {
        name: "; ".join(f"*{row['caption']}* ({row['itc']:.2f}, {row['source']})" for row in rows)
        for name, rows in kept["examples"].items()
    }
    lines += [
        "",
        f"{kept['pictures']:,} drawings of {kept['version']}, which none of the models has seen; "
        f"{kept['preferred']['pairs']} pairs, chance 50 %. With texts kept from a cosine of "
        f"{kept['min_itc']:g} on, {' and '.join(told)}; {kept['without_text']:,} drawings are left "
        "without a text.",
        "",
        f"Drawn by chance, kept: {shown['kept']}.",
        "",
        f"Dropped: {shown['dropped']}.",
    ]
    return "\n".join(lines) + "\n"


def with_table(page: str, kept: dict[str, Any]) -> str:
    """`page` with the words of a record between its two marks."""
    return between(page, BEGIN, END, table(kept))


def main() -> None:
    """Run, record and write; or the last alone."""
    given = RunOrTable(__doc__, "the run folder of picturebook_curves.py").ask()
    if given.output is not None:
        run(given.output)
        kept = json.dumps(record(given.output), indent=1, ensure_ascii=False)
        RECORD.write_text(f"{kept}\n", encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), read(RECORD)), encoding="utf-8")


if __name__ == "__main__":
    main()
