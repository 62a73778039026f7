"""`optimum-cli export blip-edge MODEL OUTPUT --target …`: our `export`, where optimum's users look.

optimum runs every file of this name's form that lies in this folder of its namespace, in whatever
place; it is all that the wheel installs outside `blip_edge`. What is typed goes to our own command
line as it is, so that flags, messages and exit codes are those of `blip-edge export`.
"""

import sys
from argparse import ArgumentParser

from optimum.commands.base import BaseOptimumCLICommand, CommandInfo
from optimum.commands.export.base import ExportCommand

__all__ = ["REGISTER_COMMANDS", "BlipEdgeExportCommand"]

_VALUES = {
    "target": "what will run it: onnx, openvino, coreml, executorch or huggingface",
    "precision": "fp32, fp16 or int8; as the model is if not given",
    "data": "a dataset folder: pictures that the bundle carries to verify itself",
    "recipe": "a built-in recipe or a TOML file",
    "seed": "of what is drawn without a dataset",
}
_FLAGS = {
    "force": "replace the output if it is there",
    "json": "print exactly one JSON document on stdout",
    "quiet": "nothing on stderr but errors",
}


class BlipEdgeExportCommand(BaseOptimumCLICommand):
    """A model folder of ours to a verified bundle."""

    COMMAND = CommandInfo(
        name="blip-edge",
        help="Export a BLIP to ONNX Runtime, OpenVINO, Core ML or ExecuTorch with blip-edge.",
    )

    @staticmethod
    def parse_args(parser: ArgumentParser) -> None:
        """Declare what `blip-edge export` takes; OUTPUT has its place, as in optimum's exports."""
        parser.add_argument("model", help="a model folder, as `blip-edge import` writes it")
        parser.add_argument("output", help="where the bundle goes")
        for name, what in _VALUES.items():
            parser.add_argument(f"--{name}", help=what, required=name == "target")
        for name, what in _FLAGS.items():
            parser.add_argument(f"--{name}", help=what, action="store_true")
        parser.add_argument(
            "--set", metavar="KEY=VALUE", help="change one recipe key", action="append", default=[]
        )

    def run(self) -> None:
        """Export, and exit as `blip-edge export` does."""
        from blip_edge.cli import main

        given = vars(self.args)
        words = ["blip-edge", "export", given["model"], "--output", given["output"]]
        for name in _VALUES:
            words += [f"--{name}", given[name]] if given[name] is not None else []
        words += [f"--{name}" for name in _FLAGS if given[name]]
        sys.argv = words + [word for pair in given["set"] for word in ("--set", pair)]
        main()


REGISTER_COMMANDS = [(BlipEdgeExportCommand, ExportCommand)]
