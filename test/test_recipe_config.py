import ast
import re
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch
import yaml

from e2etts.config import build, to_dict
from e2etts.errors import UserError
from e2etts.nets.flow import FlowConfig, SolverConfig
from e2etts.nets.fm import FM
from e2etts.nets.vocoder import Vocoder
from e2etts.recipe import RecipeConfig, load_recipe, resolved
from e2etts.tasks.build import TASKS

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(p for p in (ROOT / "egs").glob("*/conf/*.yaml")
                 if not p.stem.startswith("ablation"))  # of experiments: test/ablation
SMALL = """
corpus: {tests: [test_en]}
model: {lm: {trunk: {layers: 2}}}
stages:
  tokenizer:
    task: first_order
    trainable: [tokenizer, lm, fm, rm, speaker]
    weights: {lm: 0.1, fm: 1.0}
    train: {lr: 1e-3, max_steps: 5}
  lm: {task: first_order, init: tokenizer, trainable: [lm], weights: {lm: 1}, train: {max_steps: 5}}
  vocoder: {task: vocoder, weights: {mel: 1}, train: {max_steps: 5}}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parts[-3]}-{p.stem}")
def test_every_configuration_of_the_recipes_is_sound(path):
    recipe = load_recipe(path)
    again = build(RecipeConfig, yaml.safe_load(yaml.safe_dump(resolved(recipe))))
    assert again == recipe
    for name, stage in recipe.stages.items():
        options = TASKS[stage.task].Options
        build(options, stage.options, f"stages.{name}.options")
        assert any(stage.weights.values())
        if stage.task == "second_order" and "fm" in stage.trainable:
            # An FM that learns from samples alone forgets the tokens of recordings.
            assert stage.weight("fm_q") > 0, name
    audio, model = recipe.audio, recipe.model
    with torch.device("meta"):  # sizes that do not fit each other are refused
        Vocoder(recipe.vocoder, sample_rate_hz=audio.sample_rate_hz,
                hop_samples=audio.hop_samples, mel_bands=audio.mel_bands)
        FM(model.fm, q_dim=model.tokenizer.q_dim, speaker_dim=model.speaker.embedding_dim,
           mel_bands=audio.mel_bands, frames_per_token=audio.frames_per_token)
    order = recipe.training_order()
    assert sorted(order) == sorted(recipe.stages)
    for name, stage in recipe.stages.items():
        for source in stage.sources.values():
            assert order.index(source) < order.index(name)


def test_resolved_writes_every_default_out(small):
    tree = resolved(load_recipe(small))
    assert tree["audio"]["sample_rate_hz"] == 16000
    assert tree["model"]["lm"]["trunk"]["layers"] == 2
    assert tree["stages"]["lm"]["train"]["max_steps"] == 5
    assert list(tree)[0] == "seed"


def test_every_mapping_can_be_emptied_by_an_override():
    """Of the mini recipe: a speaker of the LM, speaker weights, weights of a stage."""
    path = ROOT / "egs/mini/conf/default.yaml"
    full = load_recipe(path)
    assert full.synthesis.lm_speakers and full.stages["lm"].data.speaker_weights
    recipe = load_recipe(path, [
        "synthesis.lm_speakers={}", "stages.lm.data.speaker_weights={}",
        "stages.joint.weights={}", "stages.joint.weights.ce=1", "stages.joint.weights.advance=2"])
    assert recipe.synthesis.lm_speakers == {} and recipe.stages["lm"].data.speaker_weights == {}
    assert recipe.stages["fm"].data.speaker_weights == full.stages["fm"].data.speaker_weights
    assert recipe.stages["joint"].weights == {"ce": 1, "advance": 2}
    assert recipe.synthesis.candidates == full.synthesis.candidates


@pytest.mark.parametrize("override", ["stages.lm.weights={}", "stages.lm.weights.lm=0"])
def test_a_stage_without_a_loss_is_refused(small, override):
    with pytest.raises(UserError, match=r"stages\.lm\.weights: no loss has a weight"):
        load_recipe(small, [override])


def test_overrides_reach_every_depth(small):
    recipe = load_recipe(small, ["seed=7", "model.lm.trunk.layers=3", "stages.lm.train.lr=1e-4",
                                 "stages.tokenizer.weights.ctc=0.5", "synthesis.solver.steps=2",
                                 "corpus.tests=[a, b]", "model.rm.trunk.kv_heads=null"])
    assert recipe.seed == 7 and recipe.model.lm.trunk.layers == 3
    assert recipe.stage("lm").train.lr == 1e-4 and recipe.synthesis.solver.steps == 2
    assert recipe.stage("tokenizer").weights == {"lm": 0.1, "fm": 1.0, "ctc": 0.5}
    assert recipe.corpus.tests == ("a", "b")


@pytest.mark.parametrize(("override", "message"), [
    ("modle.lm=1", "nearest known key: 'model'"),
    ("model.lm.trunk.layer=3", "nearest known key: 'model.lm.trunk.layers'"),
    ("stages.lm.train.max_step=1", "nearest known key: 'stages.lm.train.max_steps'"),
    ("stages.tokenzier.train.lr=1", "'stages.tokenzier'; nearest known key: 'stages.tokenizer'"),
    ("stages.lm.init=tokeniser", "stages.lm.init: 'tokeniser' is neither a stage of this"),
    ("stages.lm.init={lmm: tokenizer}", "stages.lm.init: no part 'lmm'; parts: tokenizer"),
    ("stages.tokenizer.init=lm", "leads back to"),
    ("stages.vocoder.init={lm: lm}", "the vocoder is one part"),
    ("stages.lm.judge=tokenizer", "stages.lm.judge: task first_order has no samples to judge"),
    ("stages.lm.trainable=[lmm]", "stages.lm.trainable: no part 'lmm'; parts: tokenizer"),
    ("stages.lm.task=third_order", "'stages.lm.task'"), ("seed=many", "'seed'"),
    ("stages.lm.train={max_steps: null}", "stages.lm.train"),
    ("audio.hop_samples=321", "'audio'"), ("stages=5", "'stages'")])
def test_wrong_override_is_one_line(small, override, message):
    with pytest.raises(UserError) as e:
        load_recipe(small, [override])
    assert message in str(e.value) and "\n" not in str(e.value)


def test_an_aligned_lm_needs_a_trained_rm():
    path = ROOT / "egs/mini/conf/default.yaml"
    for off in (["stages.tokenizer.weights.ctc=0"], ["stages.tokenizer.trainable=[tokenizer, fm]"]):
        off = [*off, "stages.tokenizer.weights.lm=0"]
        with pytest.raises(UserError, match=r"stages\.lm\.init: the LM reads its text aligned"):
            load_recipe(path, [*off, "stages.lm.init=tokenizer"])
        load_recipe(path, off)  # the RM learns before the LM
    load_recipe(path, ["model.lm.text_input=prefix", "stages.tokenizer.weights.ctc=0"])


def test_training_order_follows_what_stages_start_from():
    path = ROOT / "egs/mini/conf/default.yaml"
    assert load_recipe(path).training_order() == ["vocoder", "tokenizer", "rm", "lm", "fm", "joint"]
    early = load_recipe(path, ["stages.lm.init=tokenizer"])
    assert early.training_order() == ["vocoder", "tokenizer", "lm", "fm", "rm", "joint"]
    late = load_recipe(path, ["stages.lm.init={tokenizer: tokenizer, rm: rm}"])
    assert late.training_order() == ["vocoder", "tokenizer", "rm", "lm", "fm", "joint"]
    assert late.stage("lm").sources == {
        "tokenizer": "tokenizer", "speaker": "tokenizer", "rm": "rm"}
    assert late.stages_to("lm") == ["tokenizer", "rm", "lm"]


def test_unknown_stage_lists_those_there_are(small):
    with pytest.raises(UserError, match="no stage 'fm'.*stages: tokenizer, lm, vocoder"):
        load_recipe(small).stage("fm")
    assert load_recipe(small).dump("train") == Path("dump/train")


def paths(tree, at: str = "") -> set[str]:
    """Dotted keys of a tree at every depth."""
    found = {at}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        found |= paths(value, f"{at}.{key}" if at else key)
    return found


def test_every_switch_of_the_page_on_switches_is_a_key():
    recipe = load_recipe(ROOT / "egs/mini/conf/default.yaml")
    known = paths(resolved(recipe))
    for name, stage in recipe.stages.items():
        options = paths(to_dict(TASKS[stage.task].Options()), f"stages.{name}.options")
        known |= {k.replace(f"stages.{name}", "stages.X") for k in known | options}
    for task in TASKS.values():
        known |= paths(to_dict(task.Options()), "stages.X.options")
    named = []
    for line in (ROOT / "docs/switches.md").read_text().splitlines():
        cells = line.split("|")
        for key in re.findall(r"`([a-zX_.]+)`", cells[2] if len(cells) == 5 else ""):
            named.append(f"{named[-1].rpartition('.')[0]}{key}" if key[0] == "." else key)
    assert len(named) > 15 and not set(named) - known


def sections(kind, seen):
    """All dataclasses below a configuration class."""
    for alternative in typing.get_args(kind) or (kind,):
        if alternative is not kind:
            sections(alternative, seen)
    if is_dataclass(kind) and kind not in seen:
        seen.add(kind)
        for hint in typing.get_type_hints(kind).values():
            sections(hint, seen)
    return seen


def test_every_key_is_read_by_the_program():
    """No accepted key is without effect: each field of each section is read somewhere else than
    where it is declared and checked."""
    found = sections(RecipeConfig, set())
    for task in TASKS.values():
        sections(task.Options, found)
    assert len(found) > 25
    read = set()
    for path in (ROOT / "e2etts").rglob("*.py"):
        tree = ast.parse(path.read_text())
        checks = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)
                  and f.name == "__post_init__" for n in ast.walk(f)}
        read |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)
                 and isinstance(n.ctx, ast.Load) and id(n) not in checks}
        read |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)
                 and isinstance(n.value, str) and id(n) not in checks}
    unread = sorted(f"{kind.__name__}.{f.name}" for kind in found for f in fields(kind)
                    if f.name not in read and f.name != "kind")
    assert not unread


@pytest.mark.parametrize(("override", "new"), [
    ("model.tokenizer.trunk.dim=3", "model.tokenizer.encoder"),
    ("model.lm.reading=aligned", "model.lm.text_input"),
    ("model.fm.flow.steps=3", "synthesis.solver.steps"),
    ("synthesis.flow.steps=3", "synthesis.solver"),
    ("stages.lm.fresh=[rm]", "init, as a mapping that leaves these parts out")])
def test_a_renamed_key_is_refused_with_its_new_name(small, override, new):
    with pytest.raises(UserError) as e:
        load_recipe(small, [override])
    assert str(e.value).endswith(f"is now called {new}")


def test_training_objective_and_solver_share_no_key(small):
    with pytest.raises(UserError, match="synthesis.solver.loss"):
        load_recipe(small, ["synthesis.solver.loss=l1"])
    assert not {f.name for f in fields(FlowConfig)} & {f.name for f in fields(SolverConfig)}
