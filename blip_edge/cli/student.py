"""What a student would be and cost, beside its teacher, before anything is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blip_edge.cli.folder_sizes import sizes_of
from blip_edge.cli.output import table
from blip_edge.cli.recipes import stage_of
from blip_edge.cli.tell import size_text
from blip_edge.errors import UsageError, import_extra
from blip_edge.recipe import load

__all__ = ["student_facts", "tell_student"]


def student_facts(
    name: str,
    folder: Path | None,
    preset_name: str | None,
    device: str,
    given: Sequence[str] | None,
) -> dict[str, Any]:
    """What teacher and student have and cost.

    The teacher is the model in `folder`, or a published captioner: BLIP base unless `preset_name`
    says otherwise.

    Raises:
        UsageError: there is no such student or device, the student is larger than the teacher, or
            both a folder and a preset are given.
        ArtifactError: the folder is no model.
        MissingExtraError: a network's sizes lie beside the network, which needs torch.
    """
    if folder is not None and preset_name is not None:
        raise UsageError("a student has one teacher: give either a MODEL folder or --preset")
    import_extra("torch", "train")
    from blip_edge.benchmarks.profiles import profile
    from blip_edge.models.cost import Lengths
    from blip_edge.models.presets import preset
    from blip_edge.models.student import StudentSizes, student_config

    wanted = load(StudentSizes, stage_of("student"), name, given or ())
    if folder is None:
        teacher = preset("large" if preset_name == "large" else "base")
    else:
        teacher = sizes_of(folder, "--student")
    try:
        student = student_config(teacher, wanted)
    except UsageError as error:
        if folder is not None:
            raise
        asked = f"the teacher is BLIP {preset_name or 'base'}, as no MODEL folder was given"
        raise UsageError(f"{error}; {asked}") from None
    lengths, roof = Lengths().within(teacher.text_config), profile(device)
    rows = {"teacher": _costs(teacher, lengths, roof), "student": _costs(student, lengths, roof)}
    return {
        "student": name,
        "teacher": str(folder) if folder is not None else preset_name or "base",
        "architecture": teacher.architecture,
        "sizes": asdict(wanted),
        "lengths": asdict(lengths),
        "device": {"name": device, **asdict(roof)},
        "share": rows["student"]["parameters"] / rows["teacher"]["parameters"],
        "costs": rows,
    }


def _costs(config: Any, lengths: Any, device: Any) -> dict[str, Any]:
    """Parameters by part, bytes by precision, and of each stage operations, bytes and bounds."""
    from blip_edge.models.cost import caption_costs, stage_costs
    from blip_edge.models.weighing import PRECISIONS, Weights, weights

    parts = weights(config)
    whole = sum(parts.values(), Weights())
    runs = {name: [cost] for name, cost in stage_costs(config, lengths).items()}
    if config.captions:
        runs["caption"] = caption_costs(config, lengths)
    return {
        "model_type": config.model_type,
        "vision": asdict(config.vision_config),
        "text": asdict(config.text_config),
        "parameters": whole.count,
        "parts": {name: part.count for name, part in parts.items() if part.count},
        "bytes": {precision: whole.bytes(precision) for precision in PRECISIONS},
        "macs": {name: sum(cost.macs for cost in costs) for name, costs in runs.items()},
        "moved_bytes": {
            precision: {
                name: sum(cost.bytes(precision) for cost in costs) for name, costs in runs.items()
            }
            for precision in PRECISIONS
        },
        "roofline_ms": {
            precision: {name: _bound(costs, precision, device) for name, costs in runs.items()}
            for precision in PRECISIONS
        },
    }


def _bound(costs: Sequence[Any], precision: Any, device: Any) -> float | None:
    """Of all runs in turn."""
    from blip_edge.benchmarks.roofline import bound_ms

    if device.peak(precision) is None:
        return None
    return sum(
        bound_ms(device, precision, macs=cost.macs, moved=cost.bytes(precision)) for cost in costs
    )


def tell_student(facts: Mapping[str, Any]) -> str:
    """Both in one table, and what its lines mean below it."""
    teacher, student = facts["costs"]["teacher"], facts["costs"]["student"]
    rows = [("parameters", *_pair(teacher["parameters"], student["parameters"], size_text))]
    for precision, size in teacher["bytes"].items():
        rows.append((f"weights, {precision}", *_pair(size, student["bytes"][precision], _bytes)))
    for stage, macs in teacher["macs"].items():
        rows.append((f"{stage}, MACs", *_pair(macs, student["macs"][stage], size_text)))
    for precision, times in teacher["roofline_ms"].items():
        for stage, least in times.items():
            if least is not None:
                other = student["roofline_ms"][precision][stage]
                rows.append((f"{stage}, {precision}", *_pair(least, other, _milliseconds)))
    head = ("", facts["teacher"], facts["student"], "share")
    return "\n".join([table(rows, head=head), "", *_notes(facts)])


def _pair(teacher: float, student: float, text: Callable[[float], str]) -> tuple[str, str, str]:
    return text(teacher), text(student), f"{student / teacher:.1%}"


def _notes(facts: Mapping[str, Any]) -> list[str]:
    device, lengths = facts["device"], facts["lengths"]
    units = {
        "gemm_gflops": "GFLOP/s in float32",
        "fp16_gflops": "GFLOP/s in float16",
        "int8_tops": "TOP/s in int8",
        "bandwidth_gb_per_s": "GB/s",
    }
    known = {name: device[name] for name in units if device[name]}
    notes = [
        "Times are the roofline's, not forecasts, and weights come from memory in every run.",
        f"Device: {device['title']}.",
        *(f"{p['value']:g} {units[n]}: {p['kind']}, {p['source']}." for n, p in known.items()),
        f"Texts have {lengths['tokens']} tokens; a caption is greedy, its prompt has "
        f"{lengths['prompt']} of them, and step is the last of its steps.",
    ]
    if not device["int8_tops"]:
        notes.append("No int8 times, as this profile does not know int8; --device has others.")
    if facts["costs"]["student"]["model_type"] == "blip_edge":
        notes.append("The classes of transformers cannot hold this student.")
    return notes


def _bytes(number: float) -> str:
    return f"{number / 1e6:.1f} MB"


def _milliseconds(number: float) -> str:
    return f"{number:.3g} ms" if number < 1000 else f"{number:.0f} ms"
