"""Kinds of speech tokenizers, one a file: a ``Config`` whose ``kind`` names it, with ``build``."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Union

CONFIGS = tuple(import_module(f"{__name__}.{m.name}").Config
                for m in sorted(iter_modules(__path__), key=lambda m: (m.name != "fsq", m.name)))
# Of a configuration without ``kind`` the first one is meant.
TokenizerConfig = Union[CONFIGS]  # noqa: UP007 (a tuple of types)
