import copy
from pathlib import Path

import pytest
from made_experiment import ABLATION, RECIPE, make_experiment, make_folder

from e2etts.ablation.experiment import exposure, load_experiment, recipe_path
from e2etts.config import build, merge
from e2etts.errors import UserError
from e2etts.tasks.build import TASKS


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(experiment, system, seed=0):
    run = next(r for r in experiment.runs if (r.system, r.seed) == (system, seed))
    return {u.stage: u.key for u in run.units}


def test_what_is_the_same_is_one_unit(here):
    experiment = make_experiment(here)
    assert [r.name for r in experiment.runs][:4] == [
        "cascade-seed0", "stage2-seed0", "stage3-seed0", "cascade-seed1"]
    cascade, two, three = (keys(experiment, s) for s in ("cascade", "stage2", "stage3"))
    assert list(three) == ["vocoder", "tokenizer", "lm", "joint"]
    assert cascade["vocoder"] == two["vocoder"] == keys(experiment, "stage2", 1)["vocoder"]
    assert two == {k: v for k, v in three.items() if k != "joint"}
    # The LM stage itself is the same in both, but not what it starts from.
    assert cascade["tokenizer"] != two["tokenizer"] and cascade["lm"] != two["lm"]
    other = set(keys(experiment, "stage3", 1).values())
    assert not other - {three["vocoder"]} & set(three.values())
    assert len(experiment.units) == 1 + 2 * 5
    assert [u.seed for u in experiment.units.values() if u.stage == "vocoder"] == [RECIPE["seed"]]
    kinds = {u.kind for u in experiment.units.values()}
    assert len(kinds) == 1 + 5


@pytest.mark.parametrize("override,changed", [
    ("stages.lm.train.lr=0.5", {"lm", "joint"}),
    ("stages.lm.train.log_every=7", set()),
    ("model.fm.trunk.layers=3", {"tokenizer", "lm", "joint"}),
    ("vocoder.dim=32", {"vocoder"}),
    ("stages.joint.weights.ctc=2", {"joint"}),
    ("synthesis.candidates=2", set()),
])
def test_a_change_reaches_exactly_what_it_decides(here, override, changed):
    path = make_folder(here)
    before, after = load_experiment(path), load_experiment(path, [override])
    a, b = keys(before, "stage3"), keys(after, "stage3")
    assert {stage for stage in a if a[stage] != b[stage]} == changed
    measured_again = before.runs[2].key != after.runs[2].key
    assert measured_again == bool(changed or override.startswith("synthesis"))


def test_other_data_are_other_units_and_the_same_data_prepared_again_are_not(here):
    path = make_folder(here)
    before = keys(load_experiment(path), "stage2")
    make_folder(here)
    assert keys(load_experiment(path), "stage2") == before
    (here / "dump/train/utt2num_frames").write_text("u0 10\nu1 12\n")
    assert not set(keys(load_experiment(path), "stage2").values()) & set(before.values())


def test_seconds_of_audio_by_part(here):
    experiment = make_experiment(here)
    recipe = next(r.recipe for r in experiment.runs if r.system == "stage3")
    assert exposure(recipe, "joint") == {"tokenizer": 600, "lm": 1800, "fm": 600, "rm": 600,
                                         "speaker": 600}
    late = load_experiment(here / "ablation.yaml",
                     ["stages.tokenizer.weights.lm={weight: 1.0, delay: 0.75}"])
    assert exposure(late.runs[2].recipe, "tokenizer")["lm"] == 150
    part = load_experiment(here / "ablation.yaml", [
        "stages.tokenizer.weights.lm={weight: 1.0, every: 3}",
        "stages.tokenizer.options.lm_rows=0.5"])
    assert exposure(part.runs[2].recipe, "tokenizer")["lm"] == pytest.approx(100)
    spent = {"tokenizer": 1000.0, "vocoder": 5.0}
    assert exposure(late.runs[2].recipe, "tokenizer", spent)["lm"] == 250


@pytest.mark.parametrize(("override", "changed"), [
    ("stages.tokenizer.weights.lm=0", {"lm": 1200}),
    ("stages.tokenizer.weights.lm={weight: 0, delay: 0.5}", {"lm": 1200}),
    ("stages.tokenizer.weights.fm=0", {"fm": 0, "speaker": 0}),
    ("stages.tokenizer.weights.ctc={weight: 1, delay: 0.25}", {"rm": 450}),
    ("stages.tokenizer.weights={lm: {weight: 1, delay: 0.5}, fm: 0, ctc: 0}",
     {"tokenizer": 300, "lm": 1500, "fm": 0, "speaker": 0, "rm": 0}),
    ("stages.joint={trainable: [lm, fm], weights: {fm_q: 1}}", {"fm": 1200}),
    ("stages.joint={task: grpo, weights: {policy: {weight: 1, delay: 0.5}, ce: 0, ctc: 0}}",
     {"lm": 1500})])
def test_a_part_counts_from_when_a_loss_teaches_it(here, override, changed):
    recipe = load_experiment(make_folder(here), [override]).runs[2].recipe
    usual = {"tokenizer": 600, "lm": 1800, "fm": 600, "rm": 600, "speaker": 600}
    assert exposure(recipe, "joint") == {**usual, **changed}


def test_a_judge_is_trained_before_its_stage_and_counts_for_no_part(here):
    recipe = copy.deepcopy(RECIPE)
    recipe["stages"]["judge"] = {**recipe["stages"]["lm"], "init": {"tokenizer": "lm"},
                                 "trainable": ["rm"], "weights": {"ctc": 1.0}}
    recipe["stages"]["joint"]["judge"] = "judge"
    experiment = load_experiment(make_folder(here, recipe=recipe))
    three = keys(experiment, "stage3")
    assert list(three) == ["vocoder", "tokenizer", "lm", "judge", "joint"]
    assert "judge" not in keys(experiment, "stage2")
    assert exposure(experiment.runs[2].recipe, "joint")["rm"] == 600
    other = load_experiment(here / "ablation.yaml", ["stages.judge.train.lr=0.5"])
    changed = {s for s, key in keys(other, "stage3").items() if key != three[s]}
    assert changed == {"judge", "joint"}


def test_slips_are_named(here):
    def refused(message, changes, recipe=RECIPE):
        with pytest.raises(UserError, match=message):
            load_experiment(make_folder(here, merge(copy.deepcopy(ABLATION), changes), recipe))

    refused("no system 'stage4'; systems: cascade", {"comparisons": [["stage4", "cascade"]]})
    refused("comparisons must name", {"comparisons": []})
    refused("as many as leading", {"leading": 3})
    refused("seeds must be different", {"seeds": [1, 1]})
    refused("system 'stage2': unknown configuration key 'stages.lm.trian'",
            {"systems": {"stage2": {"overrides": {"stages": {"lm": {"trian": {}}}}}}})
    refused("system 'stage2': corpus.tests are not those of the other systems",
            {"systems": {"stage2": {"overrides": {"corpus": {"tests": ["dev"]}}}}})
    refused("no stage 'fm'", {"systems": {"stage2": {"speaks": "fm"}}})
    refused("nearest known key: 'systems.stage2.about'", {"systems": {"stage2": {"abuot": "x"}}})
    circle = copy.deepcopy(RECIPE)
    circle["stages"]["tokenizer"]["init"] = "joint"
    refused("leads back to", {}, circle)
    assert recipe_path(make_folder(here)).name == "recipe.yaml"
    experiment = make_experiment(here)
    assert experiment.runs[0].recipe.stages_to("joint") == ["tokenizer", "lm", "joint"]


def test_a_system_may_have_seeds_of_its_own(here):
    changes = {"systems": {"stage2": {"seeds": [1]}, "stage3": {"seeds": [0, 1, 2]}}}
    experiment = load_experiment(make_folder(here, merge(copy.deepcopy(ABLATION), changes)))
    assert [run.name for run in experiment.runs] == [
        "cascade-seed0", "stage3-seed0", "cascade-seed1", "stage2-seed1", "stage3-seed1",
        "stage3-seed2"]
    assert experiment.config.every_seed == (0, 1, 2)
    changes["systems"]["stage2"]["seeds"] = [1, 1]
    with pytest.raises(UserError, match=r"systems\.stage2\.seeds must be different"):
        load_experiment(make_folder(here, merge(copy.deepcopy(ABLATION), changes)))


def test_runs_are_chosen_by_name_in_the_requested_order(here):
    experiment = make_experiment(here, seeds=[0, 1])
    chosen = experiment.only(["stage?-seed1", "cascade-seed0", "*-seed1"])
    assert [run.name for run in chosen.runs] == ["stage2-seed1", "stage3-seed1", "cascade-seed0",
                                                 "cascade-seed1"]
    assert len(experiment.runs) == 6 and all(run in experiment.runs for run in chosen.runs)
    with pytest.raises(UserError, match="no run is called 'stage4-seed0'; runs: cascade-seed0, "):
        experiment.only(["*-seed1", "stage4-seed0"])


@pytest.mark.parametrize("name", ["ablation", "ablation_smoke"])
def test_the_experiments_of_mini_are_whole_and_spend_alike(name):
    path = Path(__file__).resolve().parents[2] / "egs/mini/conf" / f"{name}.yaml"
    experiment = load_experiment(path)
    for run in experiment.runs:
        for unit in run.units:
            build(TASKS[unit.config.task].Options, unit.config.options)
    assert len({repr(r.recipe.model) for r in experiment.runs}) == 1  # equal parameters
    if name == "ablation":
        config = experiment.config
        leading = {s for pair in config.comparisons[: config.leading] for s in pair}
        spent = {r.system: exposure(r.recipe, r.speaks) for r in experiment.runs}
        assert all(len(config.seeds_of(s)) >= 5 and spent[s] == spent["joint"] for s in leading)
        lm = [s["lm"] for s in spent.values()]
        assert max(lm) <= 1.2 * min(lm)
        for part in ("tokenizer", "rm"):  # a cascade has more of what it trains alone
            assert all(spent[s][part] > 1.5 * spent["joint"][part] for s in spent
                       if s.startswith("cascade"))
