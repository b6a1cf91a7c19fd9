"""What a stage starts from: sources, parts of several runs, and what does not fit together."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from test_old_files import VOCAB

from e2etts.errors import UserError
from e2etts.nets.system import PARTS
from e2etts.recipe import recipe_from
from e2etts.stages.start import load_judge, model_config, starting_point
from e2etts.tasks.build import build_system, build_task, build_vocoder
from e2etts.train.checkpoint import save_checkpoint

TRUNK = {"dim": 16, "layers": 1, "heads": 2, "hidden_dim": 24}
FIRST = {"task": "first_order", "weights": {"lm": 1.0}, "trainable": ["lm"],
         "train": {"max_steps": 1}}
CONFIG = {
    "corpus": {}, "audio": {"mel_bands": 6}, "text": {"phonemes": False},
    "model": {"tokenizer": {"encoder": TRUNK, "levels": [4, 3], "q_dim": 8},
              "lm": {"trunk": TRUNK}, "fm": {"trunk": TRUNK, "encoder_layers": 1},
              "rm": {"trunk": TRUNK}, "speaker": {"embedding_dim": 8, "dim": 12}},
    "vocoder": {"dim": 16, "layers": 1},
    "stages": {
        "vocoder": {"task": "vocoder", "weights": {"mel": 1}, "train": {"max_steps": 1}},
        "tokenizer": {**FIRST, "trainable": ["tokenizer", "lm"]},
        "lm": {**FIRST, "init": "tokenizer"},
        "joint": {**FIRST, "task": "second_order", "weights": {"ce": 1.0}, "init": "lm"}}}


def recipe_of(changes=None, **stages):
    """The recipe with changes; stages: changes of one by its name."""
    return recipe_from(CONFIG, {**(changes or {}), **({"stages": stages} if stages else {})})


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Run a with stages tokenizer and lm, run b with a tokenizer, and a pack of b. Every tensor of
    a system is random, of another seed in each run."""
    monkeypatch.chdir(tmp_path)
    recipe, nets = recipe_of(), {}
    for seed, run in enumerate("ab", 1):
        torch.manual_seed(seed)
        tensors = {k: torch.randn_like(v) if v.is_floating_point() else v
                   for k, v in build_system(recipe, VOCAB).state_dict().items()}
        nets[run] = tensors
        for stage in ("tokenizer", "lm"):
            meta = {"config": model_config(recipe, stage, VOCAB), "fingerprint": run, "step": seed}
            save_checkpoint(tmp_path / f"exp/{run}/{stage}/best", tensors, meta)
    vocoder = build_vocoder(recipe.vocoder, recipe.audio).state_dict()
    save_checkpoint(tmp_path / "exp/b/vocoder/best", vocoder,
                    {"config": model_config(recipe, "vocoder", VOCAB)})
    for stage, source in (("joint", "lm"), ("vocoder", "vocoder")):
        shutil.copytree(tmp_path / f"exp/b/{source}/best", tmp_path / f"packs/b/{stage}")
    return nets


def start(recipe, stage="lm", run="a"):
    return starting_point(recipe, stage, Path("exp") / run, VOCAB)


def of(tensors, *parts):
    return {k: v for k, v in tensors.items() if k.partition(".")[0] in parts}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())


@pytest.mark.parametrize("source, run", [
    ("tokenizer", "a"), ("exp/b/tokenizer", "b"), ("exp/b/tokenizer/best", "b"), ("packs/b", "b")])
def test_a_source_gives_all_parts(runs, source, run):
    found = start(recipe_of(lm={"init": source}))
    assert same(found.tensors, runs[run])
    assert {o["fingerprint"] for o in found.origin.values()} == {run}
    assert list(found.origin) == list(PARTS)


def test_the_vocoder_of_a_pack_is_a_source_too(runs):
    assert start(recipe_of(vocoder={"init": "packs/b"}), "vocoder").tensors


def test_parts_left_out_are_initialised_anew(runs):
    recipe = recipe_of({"model": {"lm": {"trunk": {**TRUNK, "layers": 2}}}},
                       lm={"init": {"tokenizer": "exp/b/tokenizer", "rm": "exp/b/tokenizer"}})
    found = start(recipe)
    assert same(found.tensors, of(runs["b"], "tokenizer", "speaker", "rm"))
    system = build_task(recipe, "lm", VOCAB, found.tensors).system.state_dict()
    assert same(of(system, "tokenizer", "speaker", "rm"), found.tensors)
    torch.manual_seed(recipe.seed)
    seeds = build_system(recipe, VOCAB).state_dict()
    for part in ("lm", "fm"):
        assert not same(of(system, part), of(seeds, part))
    again = build_task(recipe, "lm", VOCAB, found.tensors).system.state_dict()
    assert same(system, again)


def test_the_speaker_encoder_comes_with_the_tokenizer_unless_named(runs):
    found = start(recipe_of(lm={"init": {"tokenizer": "exp/b/tokenizer"}}))
    assert found.origin.keys() == {"tokenizer", "speaker"}
    assert found.origin["speaker"]["fingerprint"] == "b"
    named = start(recipe_of(lm={"init": {"tokenizer": "exp/b/tokenizer", "speaker": "tokenizer"}}))
    assert same(of(named.tensors, "speaker"), of(runs["a"], "speaker"))
    assert same(of(named.tensors, "tokenizer"), of(runs["b"], "tokenizer"))


@pytest.mark.parametrize("parts, message", [
    ({"tokenizer": "tokenizer", "fm": "exp/b/tokenizer"},
     "stages.lm.init: exp/b/tokenizer/best: its fm was trained with another tokenizer"),
    ({"tokenizer": "tokenizer", "lm": "exp/b/tokenizer"}, "its lm was trained with another tok"),
    ({"tokenizer": "tokenizer", "rm": "exp/b/tokenizer"}, "its rm was trained with another tok"),
    ({"tokenizer": "tokenizer", "speaker": "exp/b/tokenizer", "fm": "tokenizer"},
     "its fm was trained with another speaker"),
    ({"lm": "exp/b/tokenizer"}, "its lm was trained with a tokenizer, of which init has no source"),
    ({"rm": "exp/b/tokenizer"}, "name one of 'tokenizer' as well")])
def test_parts_trained_on_other_tokens_or_speaker_embeddings_are_refused(runs, parts, message):
    with pytest.raises(UserError, match=message):
        start(recipe_of(lm={"init": parts}))


def test_an_rm_that_matches_speaker_embeddings_keeps_its_speaker_encoder(runs):
    embedding = {"model": {"rm": {"speaker_loss": "embedding"}}}
    recipe = recipe_of(embedding)
    for run, seed in (("d", 4), ("e", 5)):
        torch.manual_seed(seed)
        save_checkpoint(f"exp/{run}/lm/best", build_system(recipe, VOCAB).state_dict(),
                        {"config": model_config(recipe, "lm", VOCAB), "step": 1})

    def parts(speaker):
        return recipe_of(embedding, lm={"init": {
            "tokenizer": "exp/d/lm", "rm": "exp/d/lm", "speaker": speaker}})
    assert "rm" in start(parts("exp/d/lm")).origin
    with pytest.raises(UserError, match="its rm was trained with another speaker encoder"):
        start(parts("exp/e/lm"))


def test_options_that_only_training_reads_may_differ(runs):
    changes = {"model": {"rm": {"label_smoothing": 0.1}, "fm": {"flow": {"cfg_dropout": 0.5}}}}
    assert same(start(recipe_of(changes)).tensors, runs["a"])


@pytest.mark.parametrize("changes, key", [
    ({"model": {"tokenizer": {"levels": [4, 4]}}}, "model.tokenizer.levels"),
    ({"model": {"lm": {"trunk": {**TRUNK, "layers": 2}}}}, "model.lm.trunk.layers: 1 != 2"),
    ({"model": {"fm": {"flow": {"sigma": 0.01}}}}, "model.fm.flow.sigma"),
    ({"audio": {"hop_samples": 160}}, "audio.hop_samples")])
def test_options_that_shape_a_part_or_its_inputs_are_refused_by_name(runs, changes, key):
    with pytest.raises(UserError, match=f"of another configuration .*{key}.*use the stored values"):
        start(recipe_of(changes))


def test_options_added_later_have_their_defaults(runs, tmp_path):
    path = tmp_path / "exp/a/tokenizer/best/meta.json"
    meta = json.loads(path.read_text())
    for section, key in (("lm", "text_stride"), ("rm", "labels_per_token"), ("fm", "flow")):
        del meta["config"]["model"][section][key]
    del meta["config"]["audio"]["mel_low_hz"]
    path.write_text(json.dumps(meta))
    assert same(start(recipe_of()).tensors, runs["a"])
    with pytest.raises(UserError, match="model.rm.labels_per_token"):  # not the default
        start(recipe_of({"model": {"rm": {"labels_per_token": 3}}}))


def test_a_missing_source_names_the_remedy(runs, tmp_path):
    with pytest.raises(UserError, match="neither a stage of this configuration .* nor a folder"):
        recipe_of(lm={"init": "exp/c/tokenizer"})
    (tmp_path / "exp/c/tokenizer").mkdir(parents=True)
    with pytest.raises(UserError, match=r"exp/c/tokenizer: no checkpoint here: name the folder"):
        start(recipe_of(lm={"init": "exp/c/tokenizer"}))
    with pytest.raises(UserError, match="exp/c/tokenizer/best/model.safetensors: no such "
                                        "checkpoint file: run the stage that writes it"):
        start(recipe_of(), run="c")


def test_a_judge_is_a_source_and_must_fit(runs, tmp_path):
    judged = recipe_of(joint={"judge": "exp/b/tokenizer"})
    assert same(load_judge(judged, "joint", tmp_path, VOCAB), runs["b"])
    other = recipe_of({"model": {"rm": {"trunk": {**TRUNK, "layers": 2}}}},
                      joint={"judge": "exp/b/tokenizer"})
    with pytest.raises(UserError, match="stages.joint.judge: .*model.rm.trunk.layers"):
        load_judge(other, "joint", tmp_path, VOCAB)


def test_an_lm_that_was_aligned_by_another_rm_is_told(runs, tmp_path):
    """The RM of stage 7 aligns the prompts of an LM that learned from the RM of stage 4."""
    aligned = {"model": {"lm": {"text_input": "aligned"}}, "stages": {"tokenizer": {
        "trainable": ["tokenizer", "lm", "rm"], "weights": {"ctc": 1.0, "advance": 1.0}}}}
    recipe = recipe_of(aligned)
    torch.manual_seed(3)
    tensors = build_system(recipe, VOCAB).state_dict()
    later = {k: v + 1 if k.startswith("rm.") else v for k, v in tensors.items()}
    for folder, saved in (("lm", tensors), ("rm", later), ("lm_after_rm", later)):
        save_checkpoint(tmp_path / f"exp/c/{folder}/best", saved,
                        {"config": model_config(recipe, "lm", VOCAB), "step": 1})

    def warnings(lm, **joint):
        parts = {"tokenizer": "exp/c/lm", "lm": lm, "rm": "exp/c/rm"}
        stages = {**aligned["stages"], "joint": {
            "init": parts, "weights": {"advance": 1.0}, **joint}}
        return start(recipe_from(CONFIG, {**aligned, "stages": stages}), "joint").warnings
    [said] = warnings("exp/c/lm")
    assert "stages.joint.init: the LM of exp/c/lm/best learned" in said and "exp/c/rm/best" in said
    assert warnings("exp/c/lm_after_rm") == []
    # Stage 5 itself may well take another RM: its LM learns from this one.
    assert warnings("exp/c/lm", task="first_order", weights={"lm": 1.0, "advance": 1.0}) == []
