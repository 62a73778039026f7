"""`__all__` is the sorted list of what a module means to offer, and all of it is there."""

from importlib import import_module
from pkgutil import walk_packages

import pytest

import blip_edge

pytest.importorskip("torch")

MODULES = sorted(
    module.name
    for module in walk_packages(blip_edge.__path__, "blip_edge.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_there(name: str) -> None:
    module = import_module(name)
    is_package = hasattr(module, "__path__")  # which may be a docstring and nothing else
    public = getattr(module, "__all__", [] if is_package else None)
    assert public is not None, f"{name} has no __all__"
    assert all(hasattr(module, each) for each in public)
    assert len(set(public)) == len(public)


def test_the_package_offers_what_it_says() -> None:
    assert blip_edge.__all__ == sorted(blip_edge.__all__)
    assert callable(blip_edge.load)
    with pytest.raises(AttributeError, match="lode"):
        blip_edge.lode  # noqa: B018
