"""Joules of a Mac's processor, graphics and Neural Engine, as macOS's own `powermetrics` says them.

It tells the mean power of each sample and how long the sample was, and only to root. **Not run on a
Mac by us**: what it prints is that of its manual, and a test feeds it.

https://ss64.com/mac/powermetrics.html
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from threading import Lock, Thread

__all__ = ["Powermetrics"]

_SAMPLE = re.compile(r"\*\*\* Sampled system activity .*\((?P<ms>[\d.]+)ms elapsed\)")
_POWER = re.compile(r"^Combined Power \(CPU \+ GPU \+ ANE\): (?P<mw>[\d.]+) mW")
_COMMAND = ("powermetrics", "--samplers", "cpu_power", "--sample-rate", "50")


class Powermetrics:
    """Reads samples as they come, until it is closed.

    A lap ends with the last whole sample, so what is told of it lags by a sample's 50 ms.

    Args:
        lines: what `powermetrics` prints.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._joules: float | None = None
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._reader = Thread(target=self._read, args=(lines,), daemon=True)
        self._reader.start()

    @classmethod
    def start(cls) -> "Powermetrics | None":
        """The program's own samples; None where there is none, or it answers root alone."""
        if sys.platform != "darwin" or os.geteuid() or shutil.which(_COMMAND[0]) is None:
            return None
        process = subprocess.Popen(_COMMAND, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert process.stdout is not None
        meter = cls(process.stdout)
        meter._process = process
        return meter

    def lap(self) -> float | None:
        """Joules since the last lap; None when no sample came."""
        with self._lock:
            found, self._joules = self._joules, None
        return found

    def close(self) -> None:
        """End the program."""
        if self._process is not None:
            self._process.terminate()
        self._reader.join()
        if self._process is not None:
            self._process.communicate()  # waits, and closes what the reader has read to its end

    def _read(self, lines: Iterable[str]) -> None:
        seconds = 0.0
        for line in lines:
            if sample := _SAMPLE.search(line):
                seconds = float(sample["ms"]) / 1e3
            elif power := _POWER.match(line):
                with self._lock:
                    self._joules = (self._joules or 0.0) + float(power["mw"]) / 1e3 * seconds
