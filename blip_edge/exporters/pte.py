"""What an ExecuTorch program runs: portable kernels by name, and XNNPACK's nodes by kind."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from blip_edge.errors import import_extra

__all__ = ["operators_of"]


def operators_of(path: Path) -> list[str]:
    """The kind of every operation: `aten::embedding`, `XNNFullyConnected`.

    Raises:
        MissingExtraError: executorch is not installed.
    """
    reading = import_extra("executorch.exir._serialize._program", "executorch")
    program = reading.deserialize_pte_binary(path.read_bytes()).program
    blobs = [inline.data for inline in program.backend_delegate_data]
    kinds: list[str] = []
    for plan in program.execution_plan:
        for instruction in (one for chain in plan.chains for one in chain.instructions):
            call = instruction.instr_args
            if hasattr(call, "op_index"):
                kinds.append(plan.operators[call.op_index].name)
            elif hasattr(call, "delegate_index"):
                delegate = plan.delegates[call.delegate_index]
                kinds += _xnnpack_nodes(bytes(blobs[delegate.processed.index]))
    return kinds


def _xnnpack_nodes(blob: bytes) -> list[str]:
    """Kinds of a delegated part's nodes: a header, a flatbuffer, then its weights."""
    writing = import_extra(
        "executorch.backends.xnnpack.serialization.xnnpack_graph_serialize", "executorch"
    )
    flatbuffer = import_extra("executorch.exir._serialize._flatbuffer", "executorch")
    header = writing.XNNHeader.from_bytes(blob[: writing.XNNHeader.EXPECTED_LENGTH])
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = header.flatbuffer_offset
        (folder / "part.bin").write_bytes(blob[start : start + header.flatbuffer_size])
        (folder / "part.fbs").write_bytes(writing._get_schema_bytes())
        flatbuffer._flatc_decompile(
            scratch, str(folder / "part.fbs"), str(folder / "part.bin"), ["--strict-json"]
        )
        text = (folder / "part.json").read_text(encoding="utf-8")
    # Not as JSON: an open end of a clamp is written as a bare inf.
    return re.findall(r'"xnode_union_type": "(\w+)"', text)
