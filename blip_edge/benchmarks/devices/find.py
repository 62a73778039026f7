"""Devices by name: `local`, `ssh:pi@board`, `browser`, `adb:SERIAL`, `coreml:local`."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from blip_edge.benchmarks.devices.device import Device
from blip_edge.errors import UsageError

__all__ = ["KINDS", "WebSettings", "find_device"]

KINDS = ("local", "ssh", "browser", "adb", "coreml")


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """How a browser is reached, and what runs in it."""

    lan: bool = False
    """Other machines may open the page; else only this one."""
    runtime: Path | None = None
    """A folder with onnxruntime-web's `dist` files; fetched by npm when not given."""
    backend: Literal["wasm", "webgpu"] = "wasm"


def find_device(
    name: str, web: WebSettings | None = None, show: Callable[[str], None] = print
) -> Device:
    """The device of that name; nothing is contacted yet.

    Args:
        name: `KIND` or `KIND:WHICH`.
        web: for a browser; its defaults when not given.
        show: is given what somebody has to read before a device can start, such as an address.

    Raises:
        UsageError: there is no such kind, the name is incomplete, or `web` is given and it is no
            browser.
        MissingExtraError: the program that reaches it is not installed.
    """
    kind, _, rest = name.partition(":")
    if web is not None and (kind not in ("browser", "adb") or (kind == "adb" and web.lan)):
        raise UsageError(f"--lan, --web-runtime and --web-backend are for a browser, not {name}")
    if kind == "local" and not rest:
        from blip_edge.benchmarks.devices.local import LocalDevice

        return LocalDevice()
    if kind == "ssh":
        from blip_edge.benchmarks.devices.ssh import SshDevice

        return SshDevice(rest)
    if kind == "browser":
        from blip_edge.benchmarks.devices.browser import BrowserDevice

        return BrowserDevice(rest, web or WebSettings(), show)
    if kind == "adb":
        from blip_edge.benchmarks.devices.adb import AdbDevice

        return AdbDevice(rest, web or WebSettings(), show)
    if kind == "coreml":
        from blip_edge.benchmarks.devices.coreml import CoreMLDevice

        return CoreMLDevice(rest)
    close = get_close_matches(kind, KINDS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(KINDS)}"
    raise UsageError(f"there is no device {name!r}; {hint}")
