"""What pre-training at BLIP's scale would take: sums, none of which was run.

    python benchmarks/scale.py     # -> "Scale on paper" in ARCHITECTURE.md

Recipes are train/pretrain-129m-*.toml; what was measured, on a processor, is in results/scale.json
(scale_measure.py); what is assumed stands in this file and in the section. A test holds the section
to all three, and the sums of operations to torch's own counting.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs import between

from blip_edge.models import TextConfig, VisionConfig
from blip_edge.models.cost import image_macs, read_cost, text_cost
from blip_edge.models.weighing import TextMatrices, text_layers
from blip_edge.recipe import load
from blip_edge.training import TrainRecipe

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks" / "results" / "scale.json"
PAGE = ROOT / "ARCHITECTURE.md"
BEGIN = "<!-- scale: written by benchmarks/scale.py -->\n"
END = "<!-- /scale -->\n"

# Published: paper, table 15 and appendix; BLIP issue 19 for the days.
TEXTS_14M, PICTURES_14M, PICTURES_LAION = 24.7e6, 14.1e6, 115e6
EPOCHS_14M, DAYS_14M = 20, 3.5
# Assumed.
GPUS, PER_NODE = 32, 8
PEAK, SHARE, GPU_BYTES = 312e12, 0.30, 80e9  # an A100's bfloat16, and how much of it is used
PICTURE_BYTES, PER_SHARD = 60e3, 10_000  # JPEG, shorter side 256
TOKENS, WORDS = 30, 30524
SHUFFLE = 1000  # pairs that wait to be drawn (data/shards.py)


@dataclass(frozen=True)
class Network:
    """Sizes that operations are counted by; T tokens a text, N an image, D and H wide towers."""

    side: int
    patch: int
    vision_layers: int
    vision_width: int
    text_layers: int
    text_width: int
    embed: int
    tokens: int = TOKENS
    words: int = WORDS

    @property
    def image_tokens(self) -> int:
        """N: patches and the class token."""
        return (self.side // self.patch) ** 2 + 1

    @property
    def patches(self) -> int:
        """Of the first convolution, whose input needs no gradient."""
        return (self.image_tokens - 1) * 3 * self.patch**2 * self.vision_width

    @property
    def layers(self) -> list[TextMatrices]:
        """Of the text tower; how its heads are cut does not matter here."""
        text = TextConfig(
            hidden_size=self.text_width,
            num_hidden_layers=self.text_layers,
            num_attention_heads=1,
            intermediate_size=4 * self.text_width,
            encoder_hidden_size=self.vision_width,
        )
        return text_layers(text)

    @property
    def image(self) -> int:
        """Of the image tower."""
        vision = VisionConfig(
            image_size=self.side,
            patch_size=self.patch,
            hidden_size=self.vision_width,
            num_hidden_layers=self.vision_layers,
            num_attention_heads=1,
            intermediate_size=4 * self.vision_width,
        )
        return image_macs(vision)

    @property
    def text(self) -> int:
        """Of a text alone."""
        return text_cost(self.layers, self.tokens).macs

    @property
    def look(self) -> int:
        """Of a text that looks at a picture, beside `text`; keys and values are `seen`."""
        return text_cost(self.layers, self.tokens, seen=self.image_tokens).macs - self.text

    @property
    def seen(self) -> int:
        """Of a picture's keys and values."""
        return read_cost(self.layers, self.image_tokens).macs

    @property
    def head(self) -> int:
        """Of the logits of all words."""
        return self.tokens * (self.text_width**2 + self.text_width * self.words)

    @property
    def features(self) -> int:
        """Of the two projections into the shared space."""
        return (self.vision_width + self.text_width) * self.embed

    @property
    def student(self) -> int:
        """Of a pair's forward pass: one picture, its text alone, thrice matched, once predicted."""
        looks = 4 * (self.text + self.look) + 3 * 2 * self.text_width
        return self.image + self.seen + self.text + looks + self.head + self.features

    @property
    def again(self) -> int:
        """Of what layers that forget compute twice: all but what an image layer ends with."""
        ends = self.vision_layers * 4 * self.image_tokens * self.vision_width**2
        return self.image - self.patches - ends + 5 * self.text + 4 * self.look

    @property
    def slow(self) -> int:
        """Of the momentum encoders' forward pass."""
        return self.image + self.text + self.features


def learning(network: Network, candidates: int, *, recompute: bool) -> int:
    """Floating-point operations a pair, forward and back: two a multiplication.

    The backward pass takes twice the forward pass, but for what needs no gradient; of `candidates`
    features two products are learned from and two are targets.
    """
    again = network.again if recompute else 0
    compared = candidates * network.embed * (2 * 2 + 2)
    return 2 * (3 * network.student - network.patches + again + network.slow + compared)


@dataclass(frozen=True)
class Run:
    """The sums of one size."""

    recipe: TrainRecipe
    measured: dict[str, Any]

    @property
    def network(self) -> Network:
        """As the recipe describes it."""
        how = self.recipe
        return Network(
            *(how.image_size, how.patch_size, how.vision_layers, how.vision_width),
            *(how.text_layers, how.text_width, how.embed_dim),
        )

    @property
    def step(self) -> int:
        """Pairs of a step."""
        return self.recipe.batch * self.recipe.accumulate * GPUS

    @property
    def epoch(self) -> float:
        """Pairs of an epoch: all texts of the 14M, one text of each of LAION's."""
        return TEXTS_14M + PICTURES_LAION / self.recipe.web_parts

    @property
    def pairs(self) -> float:
        """Of the whole run."""
        return self.epoch * self.recipe.epochs

    @property
    def operations(self) -> int:
        """Of a pair."""
        candidates = self.recipe.queue_size + self.step
        return learning(self.network, candidates, recompute=self.recipe.recompute)

    @property
    def pace(self) -> float:
        """Pairs a second of a GPU at the assumed share of its peak."""
        return PEAK * SHARE / self.operations

    @property
    def seconds(self) -> float:
        """Of a step."""
        return self.recipe.batch / self.pace

    @property
    def hours(self) -> float:
        """Of the whole run."""
        return self.pairs / (self.pace * GPUS) / 3600

    @property
    def trained(self) -> int:
        """Bytes of the trained weights in float32."""
        return 4 * int(self.measured["parameters"]["trained"])

    @property
    def remembered(self) -> int:
        """Bytes of the slow copies and both queues."""
        queues = 2 * self.recipe.queue_size * self.recipe.embed_dim * 4
        return 4 * int(self.measured["parameters"]["slow"]) + queues

    @property
    def activations(self) -> int:
        """Bytes of a batch until its backward pass."""
        kind = "recomputed" if self.recipe.recompute else "all"
        return self.recipe.batch * int(self.measured["kept_bytes"][kind])

    @property
    def memory(self) -> int:
        """Bytes of a GPU: weights, gradients and their buckets, AdamW's two, and the rest."""
        return 5 * self.trained + self.remembered + self.activations

    @property
    def checkpoint(self) -> int:
        """Bytes of a snapshot: weights, AdamW's two, slow copies, queues."""
        return 3 * self.trained + self.remembered

    @property
    def node_sends(self) -> float:
        """Bytes that a node of a ring of nodes sends each step to average gradients."""
        nodes = GPUS / PER_NODE
        return 2 * (nodes - 1) / nodes * self.trained


def runs(record: dict[str, Any]) -> list[Run]:
    """Base and large."""
    return [
        Run(load(TrainRecipe, "train", f"pretrain-129m-{size}"), measured)
        for size, measured in record["sizes"].items()
    ]


def reported_pace() -> float:
    """Pairs a second of a GPU, by the days that BLIP's author names for the 14M on 32 GPUs."""
    return TEXTS_14M * EPOCHS_14M / (DAYS_14M * 86400 * GPUS)


def section(record: dict[str, Any]) -> str:
    """The tables and what fails first, in Markdown."""
    both = runs(record)
    sides = " × ".join(map(str, record["settings"]["sides"]))
    kilobytes = record["ready"]["file_bytes"] / 1e3
    lines = [
        "**Nothing of this was run**: it is arithmetic over the recipes `pretrain-129m-base` and "
        f"`-large`. Published: {TEXTS_14M / 1e6:.1f} M texts an epoch of the 14M after CapFilt, "
        f"{PICTURES_LAION / 1e6:.0f} M pictures of LAION, of which an epoch reads a fifth, one "
        f"text each. Assumed: {GPUS} GPUs, {PER_NODE} a node, of {PEAK / 1e12:.0f} TFLOP/s in "
        f"bfloat16 and {GPU_BYTES / 1e9:.0f} GB, {SHARE:.0%} of the peak used; texts of {TOKENS} "
        f"tokens; pictures of {PICTURE_BYTES / 1e3:.0f} kB, {PER_SHARD:,} a shard. Measured on a "
        "processor: bytes kept for the backward pass, bytes a row, and pairs that a busy core "
        f"makes ready, of drawn pictures of {sides} pixels and {kilobytes:.0f} kB.",
        "",
        "| | ViT-B | ViT-L |",
        "|---|---|---|",
        *(f"| {name} | {' | '.join(values)} |" for name, values in _rows(both, record)),
        "",
        *_check(both[0]),
        "",
        *_data(both[0], record),
        "",
        "What fails first, and what is done about it:",
        "",
        *_failures(both[0], record),
    ]
    return "\n".join(lines) + "\n"


def _rows(both: list[Run], record: dict[str, Any]) -> list[tuple[str, list[str]]]:
    core = record["ready"]["pairs_per_s"]
    rows: list[tuple[str, Any]] = [
        ("pairs a step", lambda r: f"{r.recipe.batch} × {GPUS} = {r.step:,}"),
        ("pairs an epoch, in all", lambda r: f"{r.epoch / 1e6:.1f} M, {r.pairs / 1e6:.0f} M"),
        ("steps", lambda r: f"{r.pairs / r.step:,.0f}"),
        ("parameters trained", lambda r: f"{r.trained / 4e6:.1f} M"),
        ("GFLOP a pair, forward and back", lambda r: f"{r.operations / 1e9:.0f}{_again(r)}"),
        ("pairs/s a GPU, all", lambda r: f"{r.pace:.0f}, {r.pace * GPUS:,.0f}"),
        ("hours, GPU hours", lambda r: f"{r.hours:.0f}, {r.hours * GPUS:,.0f}"),
        (
            "read, MB/s a GPU, all",
            lambda r: f"{_read(r) / 1e6:.0f}, {_read(r) * GPUS / 1e6:.0f}",
        ),
        (f"cores a GPU to make pairs ready ({core:.0f}/s each)", lambda r: f"{r.pace / core:.1f}"),
        ("a step, s", lambda r: f"{r.seconds:.2f}"),
        ("gradients a step, GB; a node sends, GB/s", _network),
        (
            "GPU memory: weights, AdamW, gradients and DDP's copy",
            lambda r: f"{5 * r.trained / 1e9:.1f} GB",
        ),
        ("… slow copies and queues", lambda r: f"{r.remembered / 1e9:.1f} GB"),
        ("… kept for the backward pass", lambda r: f"{r.activations / 1e9:.1f} GB{_again(r)}"),
        ("… in all", lambda r: f"{r.memory / 1e9:.1f} GB"),
        ("a checkpoint", lambda r: f"{r.checkpoint / 1e9:.1f} GB"),
    ]
    return [(name, [say(run) for run in both]) for name, say in rows]


def _again(run: Run) -> str:
    return " (recomputed)" if run.recipe.recompute else ""


def _read(run: Run) -> float:
    return run.pace * PICTURE_BYTES


def _network(run: Run) -> str:
    return f"{run.trained / 1e9:.2f}; {run.node_sends / run.seconds / 1e9:.1f}"


def _check(base: Run) -> list[str]:
    pace = reported_pace()
    slow = base.pairs / (pace * GPUS) / 3600
    return [
        f"The share of the peak is the weakest of these. BLIP's author names 3 to 4 days for "
        f"{EPOCHS_14M} epochs of the 14M on {GPUS} GPUs (BLIP's issue 19), {pace:.0f} pairs/s a "
        f"GPU, which by this count of operations is {pace * base.operations / 1e12:.0f} TFLOP/s, "
        f"{pace * base.operations / PEAK:.0%} of that peak, in float32 (TF32) and with other code. "
        f"At that pace ViT-B takes {slow:.0f} hours.",
    ]


def _data(base: Run, record: dict[str, Any]) -> list[str]:
    pictures = PICTURES_14M + PICTURES_LAION
    return [
        f"Data: {pictures / 1e6:.1f} M pictures are {pictures * PICTURE_BYTES / 1e12:.1f} TB, "
        f"{pictures / PER_SHARD:,.0f} shards of {PER_SHARD * PICTURE_BYTES / 1e6:.0f} MB; an epoch "
        f"of LAION reads {PICTURES_LAION / base.recipe.web_parts / PER_SHARD:,.0f} of its "
        f"{PICTURES_LAION / PER_SHARD:,.0f}. A process holds {SHUFFLE:,} pairs to draw from, "
        f"{SHUFFLE * PICTURE_BYTES / 1e6:.0f} MB, and a count for each shard. Rows of a folder lie "
        f"in memory: {record['row_bytes']['kept']} bytes each, {record['row_bytes']['peak']} while "
        "they are read; and up to a gigabyte of its pictures, decoded, in each process.",
    ]


def _failures(base: Run, record: dict[str, Any]) -> list[str]:
    kept, peak = (TEXTS_14M * record["row_bytes"][name] / 1e9 for name in ("kept", "peak"))
    epoch = PICTURES_LAION / base.recipe.web_parts / GPUS
    lost = base.recipe.save_every * base.seconds / 60
    return [
        f"* **Host memory**, if the 14M are a folder: {kept:.0f} GB in every process, "
        f"{kept * PER_NODE:.0f} GB a node, and {peak * PER_NODE:.0f} GB while rows are read. As "
        "tars (`--data TARS`) they take none. The folder is for sets of a few million rows.",
        "* **Decoding.** Threads of one process make pairs ready, and Python's lock lets them "
        "scale only so far; how far was not measured on many cores. A GPU that waits is seen in "
        "the bar's samples/s.",
        f"* **A node dies.** The run ends; `--resume` goes on bit for bit from the last snapshot, "
        f"at most {base.recipe.save_every:,} steps, {lost:.0f} minutes, back, with as many "
        "processes as before: the number cannot change. Inside an epoch of tars the shards are "
        f"read again up to there, undecoded: up to {epoch * PICTURE_BYTES / 1e9:.0f} GB a process.",
        "* **Bad pictures and tars** are skipped, counted and listed; more than `max_bad` (1 %) "
        "of them stop the run, so a crawl that has rotted needs a higher one. A process whose "
        "batch is all bad takes the next that can be read, and the others do not wait for ever.",
        "* **Unequal shards.** Shares are cut by samples and not by shards, so every process has "
        "equally many batches, whatever their number.",
        "* **Stragglers.** Every step waits for the slowest process; up to two batches a worker "
        "are ready ahead, which hides a slow read and not a slow GPU. Nothing else is done.",
        "* **The network**, where a node sends less than the table asks: gradients travel while "
        "the backward pass goes on, and `accumulate` makes them rarer.",
        "* **A loss that is no number** stops the run with the step's name; the last snapshot is "
        "from before it.",
        "* **A full disk.** A snapshot is written beside the last two and renamed, then the oldest "
        f"goes: room for three, {3 * base.checkpoint / 1e9:.0f} GB. A damaged one is passed over.",
    ]


def with_section(page: str, record: dict[str, Any]) -> str:
    """`page` with the section between its marks."""
    return between(page, BEGIN, END, section(record))


def measured() -> dict[str, Any]:
    """The committed record."""
    record: dict[str, Any] = json.loads(RECORD.read_text(encoding="utf-8"))
    return record


if __name__ == "__main__":
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), measured()), encoding="utf-8")
