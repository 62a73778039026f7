"""What Android's services tell of heat and battery, read from `dumpsys`.

https://source.android.com/docs/core/power/thermal-mitigation#dumpsys-thermalservice
"""

import re
from typing import Any

__all__ = ["STATUS", "parse_battery", "parse_thermal"]

STATUS = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Words of Android's throttling status 0 to 6."""


def parse_thermal(text: str) -> dict[str, Any]:
    """`dumpsys thermalservice`: {"status": 0, "temperatures_c": {"battery": 31.5, …}}.

    Current temperatures win over cached ones; what is not told is absent.
    """
    found: dict[str, Any] = {}
    if status := re.search(r"Thermal Status:\s*(\d+)", text):
        found["status"] = int(status[1])
    rows = re.findall(r"Temperature\{mValue=(-?[\d.]+),.*?mName=([^,}]+)", text)
    if rows:  # the cached ones come first, and are overwritten
        found["temperatures_c"] = {name.strip(): float(value) for value, name in rows}
    return found


def parse_battery(text: str) -> dict[str, Any]:
    """`dumpsys battery`: level in per cent, temperature in degrees Celsius, whether it charges."""
    values = dict(re.findall(r"^\s*([\w ]+?):\s*(\S+)\s*$", text, re.M))
    found: dict[str, Any] = {}
    if values.get("level", "").isdigit():
        found["level"] = int(values["level"])
    if values.get("temperature", "").lstrip("-").isdigit():
        found["temperature_c"] = int(values["temperature"]) / 10
    plugs = [value for name, value in values.items() if name.endswith("powered")]
    if plugs:
        found["charging"] = "true" in plugs
    return found
