"""Marks of configuration fields."""

from dataclasses import field
from typing import Any


def training_option(default: Any) -> Any:
    """A dataclass field that only training reads: checkpoints that differ in it have tensors of
    the same shapes and meaning, and either can be loaded."""
    return field(default=default, metadata={"training": True})
