from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from e2etts.config import (
    build,
    differences,
    fingerprint,
    merge,
    parse_overrides,
    read_yaml,
    to_dict,
)
from e2etts.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Leaf:
    lr: float = 1e-3
    steps: int | None = None
    levels: tuple[int, ...] = (8, 5)
    kind: Literal["char", "bpe"] = "char"
    on: bool = True

    def __post_init__(self):
        if self.lr < 0:
            raise ValueError("lr must not be negative")


@dataclass(frozen=True, kw_only=True)
class Branch:
    leaf: Leaf = field(default_factory=Leaf)
    other: Leaf | None = None
    weights: dict[str, float] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Root:
    name: str
    branch: Branch = field(default_factory=Branch)
    stages: dict[str, Branch] = field(default_factory=dict)


@pytest.mark.parametrize(("override", "nearest"), [
    ("nmae=1", "'nmae'; nearest known key: 'name'"),
    ("branch.laef.lr=1", "'branch.laef'; nearest known key: 'branch.leaf'"),
    ("branch.leaf.setps=1", "'branch.leaf.setps'; nearest known key: 'branch.leaf.steps'"),
    ("branch.other.levles=[1]", "'branch.other.levles'; nearest known key: 'branch.other.levels'"),
    ("stages.lm.leaf.lrr=1", "'stages.lm.leaf.lrr'; nearest known key: 'stages.lm.leaf.lr'"),
    ("stages.lm.lefa.lr=1", "'stages.lm.lefa'; nearest known key: 'stages.lm.leaf'"),
    ("zzzzzz=1", "'zzzzzz'; nearest known key: ")])
def test_unknown_key_names_the_nearest(override, nearest):
    with pytest.raises(UserError) as e:
        build(Root, merge({"name": "x"}, parse_overrides([override])))
    assert nearest in str(e.value) and "\n" not in str(e.value)


@pytest.mark.parametrize(("override", "key"), [
    ("branch.leaf.lr=fast", "branch.leaf.lr"), ("branch.leaf.steps=1.5", "branch.leaf.steps"),
    ("branch.leaf.levels=[8,x]", "branch.leaf.levels.1"),
    ("branch.leaf.kind=word", "branch.leaf.kind"),
    ("branch.leaf=3", "branch.leaf"), ("branch=null", "branch"), ("stages.lm=7", "stages.lm"),
    ("branch.weights.lm=much", "branch.weights.lm"), ("branch.leaf.lr=-1", "branch.leaf"),
    ("branch.leaf.on=perhaps", "branch.leaf.on"), ("branch.leaf.lr=[1]", "branch.leaf.lr")])
def test_wrong_value_names_its_key(override, key):
    with pytest.raises(UserError) as e:
        build(Root, merge({"name": "x"}, parse_overrides([override])))
    assert f"'{key}'" in str(e.value) and "\n" not in str(e.value)


def test_missing_key_and_prefix():
    with pytest.raises(UserError, match="key 'name'"):
        build(Root, {})
    with pytest.raises(UserError, match=r"'stages\.lm\.options\.lerf'.*options\.leaf'"):
        build(Branch, {"lerf": 1}, "stages.lm.options")
    with pytest.raises(UserError, match=r"key 'stages\.lm\.options\.leaf'"):
        build(Branch, {"leaf": 1}, "stages.lm.options")


@pytest.mark.parametrize(("text", "value"), [
    ("1e-3", 1e-3), ("1.0e-3", 1e-3), ("3", 3), ("-2.5", -2.5), ("null", None), ("", None),
    ("true", True), ("false", False), ("word", "word"), ("'3'", "3"), ("a=b", "a=b"),
    ("[1, 2]", [1, 2]), ("{a: 1}", {"a": 1}), ("[]", []), ("a/b.yaml", "a/b.yaml")])
def test_override_values(text, value):
    got = parse_overrides([f"a.b={text}"])
    assert got == {"a": {"b": value}} and type(got["a"]["b"]) is type(value)


def test_an_empty_mapping_empties():
    tree = {"synthesis": {"lm_speakers": {"en": "flite-slt"}, "batch": 2}}
    assert merge(tree, parse_overrides(["synthesis.lm_speakers={}"])) == {
        "synthesis": {"lm_speakers": {}, "batch": 2}}


def test_a_mapping_that_was_emptied_and_filled_replaces():
    tree = {"weights": {"lm": 1, "fm": 2}, "init": {"lm": "a"}, "kept": {"a": 1}}
    assert merge(tree, parse_overrides(["weights={}", "weights.ctc=3", "kept.b=2"])) == {
        "weights": {"ctc": 3}, "init": {"lm": "a"}, "kept": {"a": 1, "b": 2}}
    assert merge(tree, parse_overrides(["init=b", "init.rm=c"]))["init"] == {"rm": "c"}
    assert merge(tree, parse_overrides(["init=null", "init.rm=c"]))["init"] == {"rm": "c"}
    assert merge(tree, parse_overrides(["init.rm=c", "init={}"]))["init"] == {}


def test_laying_over_does_not_depend_on_what_is_merged_first():
    random = np.random.default_rng(0)

    def drawn(depth: int = 3) -> dict:
        """Keys of mappings, numbers and nulls; empty mappings are frequent."""
        return {str(key): drawn(depth - 1) if depth and random.random() < 0.6
                else [None, int(random.integers(3))][random.integers(2)]
                for key in random.permutation(3)[: random.integers(4)]}

    replaced = 0
    for _ in range(2000):
        a, b, c = drawn(), drawn(), drawn()
        one_after_the_other = merge(merge(a, b), c)
        assert merge(a, merge(b, c)) == one_after_the_other
        replaced += any(b.get(k) == {} and isinstance(c.get(k), dict) and c[k] for k in a)
    assert replaced > 10  # what the test is about did occur


def test_overrides_are_merged_and_the_last_one_wins():
    assert parse_overrides(["a.b=1", "a.c=2", "d=3", "a.b=4"]) == {"a": {"b": 4, "c": 2}, "d": 3}
    assert parse_overrides([]) == {}


@pytest.mark.parametrize("bad", ["word", "=1", "a.b=[1, 2", "a={"])
def test_bad_override_is_a_user_error(bad):
    with pytest.raises(UserError) as e:
        parse_overrides([bad])
    assert "\n" not in str(e.value)


def test_values_are_converted_to_their_types():
    root = build(Root, merge({"name": "x"}, parse_overrides([
        "branch.leaf.lr=1", "branch.leaf.steps=1e3", "branch.leaf.levels=[3,3]",
        "branch.other.lr=5e-4", "branch.weights.lm=1", "branch.options.any=[1]",
        "stages.lm.leaf.on=no", "stages.lm.leaf.steps=null"])))
    assert root.branch.leaf == Leaf(lr=1.0, steps=1000, levels=(3, 3))
    assert isinstance(root.branch.leaf.steps, int) and root.branch.other.lr == 5e-4
    assert root.branch.weights == {"lm": 1.0} and root.branch.options == {"any": [1]}
    assert root.stages["lm"].leaf.on is False and root.stages["lm"].leaf.steps is None


def test_null_drops_an_entry_of_a_base_and_a_key_of_another_kind():
    base = {"name": "x", "stages": {"lm": {}, "fm": {"weights": {"a": 1, "b": 2}}},
            "branch": {"options": {"any": 1}}}
    root = build(Root, merge(base, parse_overrides([
        "stages.lm=null", "stages.fm.weights.a=null", "branch.options.any=null"])))
    assert list(root.stages) == ["fm"] and root.stages["fm"].weights == {"b": 2}
    assert root.branch.options == {"any": None}  # anything goes there, null too

    @dataclass(frozen=True, kw_only=True)
    class Words:
        kind: Literal["words"] = "words"
        count: int = 3

    @dataclass(frozen=True, kw_only=True)
    class Letters:
        kind: Literal["letters"]
        size: int = 4
        leaf: Leaf = field(default_factory=Leaf)

    @dataclass(frozen=True, kw_only=True)
    class Either:
        of: Words | Letters = field(default_factory=Words)

    base = {"of": {"count": 5}}
    letters = {"of": {"kind": "letters", "size": 6, "leaf": {"steps": 7}}}
    with pytest.raises(UserError, match=r"unknown configuration key 'of\.count'"):
        build(Either, merge(base, letters))
    got = build(Either, merge(merge(base, letters), {"of": {"count": None}}))
    assert got.of == Letters(kind="letters", size=6, leaf=Leaf(steps=7))
    with pytest.raises(UserError, match=r"unknown configuration key 'of\.cuont'"):
        build(Either, merge(letters, {"of": {"cuont": None}}))


def test_exponents_in_a_file_are_numbers_too(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 1e-3\nlevels: [4, 4]\n")
    assert build(Leaf, read_yaml(tmp_path / "a.yaml")) == Leaf(lr=1e-3, levels=(4, 4))


def test_base_is_read_first_and_overridden(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "root.yaml").write_text("a: {x: 1, y: 2}\nb: [1, 2]\nc: 5\n")
    (tmp_path / "sub/mid.yaml").write_text("base: ../root.yaml\na: {y: 3}\n")
    (tmp_path / "top.yaml").write_text("base: sub/mid.yaml\nb: [9]\na: {z: 4}\nc: null\n")
    assert read_yaml(tmp_path / "top.yaml") == {"a": {"x": 1, "y": 3, "z": 4}, "b": [9], "c": None}


def test_each_of_several_bases_overrides_the_previous_one(tmp_path):
    (tmp_path / "a.yaml").write_text("x: {one: 1, two: 1}\ny: 1\n")
    (tmp_path / "b.yaml").write_text("x: {two: 2, three: 2}\n")
    (tmp_path / "top.yaml").write_text("base: [a.yaml, b.yaml]\nx: {three: 3}\n")
    assert read_yaml(tmp_path / "top.yaml") == {"x": {"one": 1, "two": 2, "three": 3}, "y": 1}


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.yaml", None, "a.yaml: cannot read"), ("a.yaml", b"a: [1\nb: 2", "a.yaml: not valid YAML"),
    ("a.yaml", b"", "a.yaml: expected a mapping"), ("a.yaml", b"- 1", "got list"),
    ("a.yaml", b"a: \xff\xfe", "a.yaml: not valid"),
    ("a.yaml", b"base: b.yaml\na: 1", "b.yaml: cannot read"),
    ("a.yaml", b"base: a.yaml\na: 1", "a.yaml: is its own base"),
    ("a.yaml", b"base: 5\na: 1", "a.yaml: base"), ("a.yaml", b"base: [5]\na: 1", "a.yaml: base")])
def test_unreadable_configuration_is_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as e:
        read_yaml(tmp_path / name)
    assert message in str(e.value) and "\n" not in str(e.value)


def test_dict_fingerprint_and_differences():
    a, b = Root(name="x"), Root(name="x", branch=Branch(leaf=Leaf(levels=(8, 6))))
    tree = to_dict(a)
    assert tree["branch"]["leaf"]["levels"] == [8, 5] and build(Root, tree) == a
    assert fingerprint(a) == fingerprint(tree) == fingerprint(Root(name="x")) != fingerprint(b)
    assert differences(tree, to_dict(b)) == ["branch.leaf.levels: [8, 5] != [8, 6]"]
    assert differences({"a": 1}, {"b": None, "a": 2}) == ["a: 1 != 2"]
