"""/proc/cpuinfo in its dialects, and a Mac's sysctl."""

import pytest

from blip_edge.benchmarks.cpu import parse_cpuinfo, parse_sysctl

INTEL = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse4_2 fma avx f16c avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu sse4_2 fma avx f16c avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8
"""

RASPBERRY = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

processor\t: 1
Features\t: fp asimd asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd0b

Revision\t: c04170
Serial\t\t: 0000000000000000
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""

PHONE = """\
processor\t: 0
Features\t: fp asimd asimdhp asimddp i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd46

processor\t: 1
Features\t: fp asimd asimdhp asimddp i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd48

processor\t: 2
Features\t: fp asimd asimdhp asimddp i8mm bf16
CPU implementer\t: 0x51
CPU part\t: 0x001
"""


def test_x86_names_and_flags() -> None:
    cpu = parse_cpuinfo(INTEL)
    assert cpu.name == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert {"avx2", "avx512_vnni", "amx_int8", "amx_bf16"} <= set(cpu.isa)
    assert "fpu" not in cpu.isa
    assert len(set(cpu.isa)) == len(cpu.isa)


def test_arm_boards_and_their_cores() -> None:
    cpu = parse_cpuinfo(RASPBERRY)
    assert cpu.name == "Raspberry Pi 5 Model B Rev 1.0 (2x Cortex-A76)"
    assert cpu.isa == ("neon", "fp16", "dotprod")


def test_mixed_cores_are_counted_and_unknown_ones_told_by_number() -> None:
    cpu = parse_cpuinfo(PHONE)
    assert cpu.name == "1x Cortex-A510, 1x Cortex-X2, 1x part 0x001 of implementer 0x51"
    assert {"i8mm", "bf16"} <= set(cpu.isa)


@pytest.mark.parametrize("text", ["", "garbage", "processor : 0\n\n: :\n", "CPU part\t: 0xd0b\n"])
def test_strange_texts_give_no_error(text: str) -> None:
    parse_cpuinfo(text)


def test_apple() -> None:
    text = (
        "machdep.cpu.brand_string: Apple M2\nhw.optional.arm.FEAT_DotProd: 1\n"
        "hw.optional.arm.FEAT_I8MM: 1\nhw.optional.arm.FEAT_SME: 0\nhw.optional.neon: 1\n"
    )
    cpu = parse_sysctl(text)
    assert cpu.name == "Apple M2"
    assert set(cpu.isa) == {"neon", "dotprod", "i8mm"}
