"""A processor's name and the instruction sets that decide how fast a graph runs on it.

Linux tells both in /proc/cpuinfo, in one dialect for x86 and another for ARM, where names are
numbers; macOS tells them in `sysctl -a`.
"""

import re
from dataclasses import dataclass

__all__ = ["Cpu", "parse_cpuinfo", "parse_sysctl"]

# The kernel's word for a feature -> ours. Only what matrix kernels ask for is kept.
_FLAGS = {
    "sse4_2": "sse4_2",
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "avx_vnni": "avx_vnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "avx512_fp16": "avx512_fp16",
    "amx_tile": "amx_tile",
    "amx_int8": "amx_int8",
    "amx_bf16": "amx_bf16",
    "neon": "neon",
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
_APPLE = {
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.arm.FEAT_FP16": "fp16",
    "hw.optional.arm.FEAT_DotProd": "dotprod",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
}
# Part numbers of implementer 0x41 (Arm), from Arm's technical reference manuals (MIDR_EL1).
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD4F: "Neoverse-V2",
}
_ARM = 0x41


@dataclass(frozen=True)
class Cpu:
    """A processor: its name, empty when unknown, and the instruction sets that matter here."""

    name: str
    isa: tuple[str, ...]


def parse_cpuinfo(text: str) -> Cpu:
    """Read /proc/cpuinfo of an x86 or an ARM machine."""
    rows = re.findall(r"^([^\n:]+?)[ \t]*:[ \t]*(.*?)[ \t]*$", text, re.M)
    words = {word for key, value in rows if key in ("flags", "Features") for word in value.split()}
    found = {ours for theirs, ours in _FLAGS.items() if theirs in words}
    order = list(dict.fromkeys(_FLAGS.values()))
    return Cpu(name=_name(rows), isa=tuple(sorted(found, key=order.index)))


def parse_sysctl(text: str) -> Cpu:
    """Read `sysctl -a` of a Mac."""
    values = dict(re.findall(r"^([\w.]+): (.*)$", text, re.M))
    isa = dict.fromkeys(ours for theirs, ours in _APPLE.items() if values.get(theirs) == "1")
    return Cpu(name=values.get("machdep.cpu.brand_string", ""), isa=tuple(isa))


def _name(rows: list[tuple[str, str]]) -> str:
    known = {key: value for key, value in reversed(rows)}  # the first core's words win
    if "model name" in known and "CPU part" not in known:
        return known["model name"]
    board = known.get("Model") or known.get("Hardware") or ""
    parts = [_part(rows, index) for index, (key, _) in enumerate(rows) if key == "CPU part"]
    counted = ", ".join(f"{parts.count(part)}x {part}" for part in dict.fromkeys(parts))
    if board and counted:
        return f"{board} ({counted})"
    return board or counted or known.get("model name", "")


def _part(rows: list[tuple[str, str]], index: int) -> str:
    number = rows[index][1]
    makers = [value for key, value in rows[:index] if key == "CPU implementer"]
    if makers and int(makers[-1], 16) == _ARM and int(number, 16) in _ARM_PARTS:
        return _ARM_PARTS[int(number, 16)]
    return f"part {number} of implementer {makers[-1]}" if makers else f"part {number}"
