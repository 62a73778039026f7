"""Where bundles are timed: this machine, another one over ssh, a browser, a phone, Core ML.

A file a device; `device` says what all of them do, `find` knows them by name.
"""

from blip_edge.benchmarks.devices.device import Device, measure
from blip_edge.benchmarks.devices.find import find_device

__all__ = ["Device", "find_device", "measure"]
