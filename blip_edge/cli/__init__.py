"""The command line: a verb parses, calls one stage function, and prints.

A file per group of verbs. A verb imports its stage when it runs, so that `--help` stays fast and
never needs torch.
"""

from blip_edge.cli.app import main

__all__ = ["main"]
