"""Typed configuration from YAML and ``key=value``; unknown keys fail with the nearest known key."""

import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from e2etts.errors import UserError

T = TypeVar("T")


def read_yaml(path: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML mapping; a top-level ``base: other.yaml`` is read first and overridden. In a list
    of bases, each overrides the previous one.

    above: files that have this one as their base. Raises UserError for a missing file, bad
    YAML, a document that is not a mapping, or a file that is its own base.
    """
    path = Path(path)
    if path.resolve() in above:
        raise UserError(f"{path}: is its own base: correct the line 'base:'")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UserError(f"{path}: cannot read the configuration: {e.strerror}") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(e).split())}") from e
    if not isinstance(tree, dict):
        raise UserError(f"{path}: expected a mapping of sections, got {type(tree).__name__}")
    base = tree.pop("base", None)
    if base is None:
        return tree
    bases = base if isinstance(base, list) else [base]
    below: dict[str, Any] = {}
    for name in bases:
        if not isinstance(name, str):
            raise UserError(f"{path}: base: expected the name of a file, got {name!r}")
        below = merge(below, read_yaml(path.parent / name, (*above, path.resolve())))
    return merge(below, tree)


def merge(tree: dict, other: dict) -> dict:
    """``tree`` overridden by ``other``: mappings are merged, other values replaced."""
    out = dict(tree)
    for key, value in other.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both else value
    return out


def parse_overrides(overrides: list[str]) -> dict:
    """``["stages.lm.train.lr=1e-3"]`` -> nested mapping; values are read as YAML scalars."""
    tree: dict = {}
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise UserError(f"'{item}': an override is written key=value")
        for part in reversed(key.split(".")):
            value = {part: value if isinstance(value, dict) else _scalar(value)}
        tree = merge(tree, value)
    return tree


def _scalar(text: str) -> Any:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise UserError(f"'{text}': not a YAML value: {' '.join(str(e).split())}") from e
    if isinstance(value, str) and value == text.strip():  # YAML 1.1 reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            return value
    return value


def build(cls: type[T], tree: dict, where: str = "") -> T:
    """Build the dataclass ``cls`` from a nested mapping.

    Raises UserError for an unknown key (with the nearest known one), a missing key, or a value
    of the wrong type.
    """
    _check_keys(cls, tree, where)
    try:
        return pydantic.TypeAdapter(cls).validate_python(tree)
    except pydantic.ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(p) for p in (where, *first["loc"]) if str(p))
        got = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise UserError(f"configuration key '{key}': {first['msg']}{got}") from e


def _check_keys(kind: Any, tree: Any, where: str) -> None:
    if not isinstance(tree, dict):
        return
    kind = _dataclass_of(kind)
    if kind is None:
        return
    if typing.get_origin(kind) is dict:
        for key, value in tree.items():
            _check_keys(typing.get_args(kind)[1], value, f"{where}.{key}".strip("."))
        return
    known = [f.name for f in fields(kind)]
    hints = typing.get_type_hints(kind)
    for key, value in tree.items():
        path = f"{where}.{key}".strip(".")
        if key not in known:
            raise unknown_key(where, key, known)
        _check_keys(hints[key], value, path)


def unknown_key(where: str, key: object, known: Iterable[object]) -> UserError:
    """Error for a ``key`` that the section ``where`` does not have."""
    near = difflib.get_close_matches(str(key), [str(k) for k in known], n=1, cutoff=0.0)
    path, nearest = (f"{where}.{k}".strip(".") for k in (key, near[0] if near else "none"))
    return UserError(f"unknown configuration key '{path}'; nearest known key: '{nearest}'")


def _dataclass_of(kind: Any) -> Any:
    """The dataclass or dict type inside ``X``, ``X | None``; None for plain values."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        kinds = [_dataclass_of(k) for k in typing.get_args(kind)]
        return next((k for k in kinds if k is not None), None)
    if is_dataclass(kind) or typing.get_origin(kind) is dict:
        return kind
    return None


def to_dict(config: Any) -> dict:
    """Configuration as a nested mapping, ready for YAML or JSON."""
    return json.loads(json.dumps(asdict(config)))


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Keys whose values differ between two nested mappings, as ``key: a != b``."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted({*a, *b}, key=str)
        return [d for k in keys for d in
                differences(a.get(k), b.get(k), f"{where}.{k}".strip("."))]
    return [] if a == b else [f"{where}: {a!r} != {b!r}"]


def fingerprint(config: Any) -> str:
    """Short hash of a configuration or mapping, equal for equal values."""
    tree = config if isinstance(config, dict) else to_dict(config)
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:12]
