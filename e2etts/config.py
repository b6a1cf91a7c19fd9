"""Typed configuration from YAML and ``key=value``; unknown keys fail with the nearest known key."""

import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterable
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

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


class Instead(dict):
    """A mapping that takes the place of the one it is laid over, as an empty one does."""


def merge(tree: dict, other: dict) -> dict:
    """``tree`` overridden by ``other``: mappings are merged, other values and empty mappings
    replace what was there. What is merged first and laid over a third mapping later gives the same
    as one after the other."""
    out = type(tree)(tree)
    for key, value in other.items():
        if key in out and isinstance(value, dict) and not _replaces(value):
            old = out[key] if isinstance(out[key], dict) else {}
            value = merge(old, value)
            out[key] = Instead(value) if _replaces(old) else value
        else:
            out[key] = value
    return out


def _replaces(mapping: dict) -> bool:
    return not mapping or isinstance(mapping, Instead)


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

    A field may be a union of sections: the one whose ``kind`` is named is meant, of sections
    without a kind the one whose required keys are given, else the first.
    Null drops what a base gives: an entry of a mapping of names, as in ``stages: {lm: null}``, or
    a key that the section has in another kind.

    Raises UserError for an unknown key (with its new name, or the nearest right one), a missing
    key, or a value of the wrong type.
    """
    tree = _checked(cls, tree, where)
    try:
        return pydantic.TypeAdapter(cls).validate_python(tree)
    except pydantic.ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(p) for p in (where, *first["loc"]) if str(p))
        got = "" if first["type"] == "missing" else f", got {first['input']!r}"
        raise UserError(f"configuration key '{key}': {first['msg']}{got}") from e


def _checked(kind: Any, tree: Any, where: str) -> Any:
    """``tree`` with its keys checked, and with sections of unions built."""
    if not isinstance(tree, dict):
        return tree
    sections = [s for s in _alternatives(kind) if is_dataclass(s) or get_origin(s) is dict]
    if not sections:
        return tree
    chosen = _section(sections, tree, where)
    if get_origin(chosen) is dict:
        value = get_args(chosen)[1]
        nullable = value is Any or type(None) in _alternatives(value)
        return {k: _checked(value, v, f"{where}.{k}".strip(".")) for k, v in tree.items()
                if v is not None or nullable}
    known, hints = _names(chosen), typing.get_type_hints(chosen)
    out = {}
    for key, value in tree.items():
        if key not in known:
            if value is None and any(key in _names(s) for s in sections):
                continue
            raise unknown_key(where, key, known)
        out[key] = _checked(hints[key], value, f"{where}.{key}".strip("."))
    return build(chosen, out, where) if len(sections) > 1 else out


def _section(sections: list[Any], tree: dict, where: str) -> Any:
    """The section of a union that a mapping means."""
    if len(sections) == 1:
        return sections[0]
    kinds = {get_args(typing.get_type_hints(s)["kind"])[0]: s for s in sections
             if is_dataclass(s) and "kind" in typing.get_type_hints(s)}
    if kinds and "kind" in tree:
        if tree["kind"] not in kinds:
            raise UserError(f"configuration key '{where}.kind': no kind '{tree['kind']}'; kinds: "
                            f"{', '.join(kinds)}")
        return kinds[tree["kind"]]
    if kinds:
        return sections[0]
    required = {s: {f.name for f in fields(s) if f.default is MISSING
                    and f.default_factory is MISSING} for s in sections}
    return next((s for s in sections if required[s] and required[s] <= tree.keys()), sections[0])


# Keys of earlier versions, by the end of their path -> what they are called now.
RENAMED = {
    "model.tokenizer.trunk": "model.tokenizer.encoder",
    "model.lm.voice": "model.lm.speaker_embedding",
    "model.lm.reading": "model.lm.text_input",
    "model.lm.reader_layers": "model.lm.text_encoder_layers",
    "model.fm.flow.drop": "model.fm.flow.cfg_dropout",
    "model.fm.flow.guidance": "synthesis.solver.cfg_scale",
    "model.fm.flow.steps": "synthesis.solver.steps",
    "model.fm.flow.temperature": "synthesis.solver.temperature",
    "model.fm.flow.start": "synthesis.solver.start",
    "model.speaker.voice_dim": "model.speaker.embedding_dim",
    "model.style.drop": "model.style.dropout",
    "synthesis.flow": "synthesis.solver",
    "synthesis.readers": "synthesis.lm_speakers",
    "sampling.longest_stay": "sampling.max_tokens_per_text_token",
    "data.voice_max_seconds": "data.reference_max_seconds",
    "fresh": "init, as a mapping that leaves these parts out",
}


def unknown_key(where: str, key: object, known: Iterable[object]) -> UserError:
    """The error of a ``key`` that the section ``where`` does not have."""
    path = f"{where}.{key}".strip(".")
    for old, new in RENAMED.items():
        if f".{path}".endswith(f".{old}"):
            return UserError(f"configuration key '{path}' is now called {new}")
    near = difflib.get_close_matches(str(key), [str(k) for k in known], n=1, cutoff=0.0)
    nearest = f"{where}.{near[0] if near else 'none'}".strip(".")
    return UserError(f"unknown configuration key '{path}'; nearest known key: '{nearest}'")


def _names(section: Any) -> list[str]:
    return [f.name for f in fields(section)] if is_dataclass(section) else []


def _alternatives(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def to_dict(config: Any) -> dict:
    """Configuration as a nested mapping, ready for YAML or JSON."""
    return json.loads(json.dumps(asdict(config)))


def with_defaults(kind: Any, tree: Any) -> Any:
    """A stored mapping of the dataclass ``kind`` with the defaults of fields that it lacks because
    they were added since. Nothing is checked."""
    if not isinstance(tree, dict):
        return tree
    sections = [s for s in _alternatives(kind) if is_dataclass(s) or get_origin(s) is dict]
    if not sections:
        return tree
    chosen = _section(sections, tree, "")
    if get_origin(chosen) is dict:
        return {k: with_defaults(get_args(chosen)[1], v) for k, v in tree.items()}
    hints, out = typing.get_type_hints(chosen), dict(tree)
    for f in fields(chosen):
        if f.name in out:
            out[f.name] = with_defaults(hints[f.name], out[f.name])
        elif f.default is not MISSING or f.default_factory is not MISSING:
            default = f.default if f.default is not MISSING else f.default_factory()
            out[f.name] = json.loads(json.dumps(default, default=asdict))
    return out


def without_training_options(config: Any) -> dict:
    """``to_dict`` of a configuration without the fields that only training reads (see
    ``nets.options``): what is left decides shapes and meaning of a model's tensors."""
    out = {}
    for f in fields(config):
        value = getattr(config, f.name)
        if not f.metadata.get("training"):
            out[f.name] = (without_training_options(value) if is_dataclass(value)
                           else json.loads(json.dumps(value)))
    return out


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
