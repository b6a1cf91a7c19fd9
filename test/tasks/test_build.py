from dataclasses import replace

import pytest
import torch
from tiny import BANDS, LEVELS, SPEAKER_DIM, Q, make_batch

from e2etts.config import build
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.recipe import RecipeConfig
from e2etts.stages.start import model_config, require_fit
from e2etts.synthesis_config import SamplingConfig, SynthesisConfig
from e2etts.tasks import metrics
from e2etts.tasks.build import build_task, system_sizes
from e2etts.tasks.dpo import DPOTask
from e2etts.tasks.first_order import FirstOrderTask
from e2etts.tasks.grpo import GRPOTask
from e2etts.tasks.second_order import SecondOrderTask
from e2etts.tasks.vocoder import VocoderTask

TRUNK = {"dim": 16, "layers": 1, "heads": 1, "head_dim": 8, "hidden_dim": 16}
VOCAB = Vocab(speakers=["a", "b", "c"], languages=["en", "fr"], emotions=[], mel_mean=-4.0,
              mel_std=2.0, text_size=9, space=[])


def stage(task="first_order", **changes):
    return {"task": task, "train": {"max_steps": 1}, **changes}


def make_recipe(**stages):
    stages = {
        "tokenizer": stage(trainable=["tokenizer", "lm", "fm", "rm", "speaker"],
                           weights={"lm": 0.1, "fm": 1, "ctc": 1, "speaker": 0}),
        "lm": stage(init="tokenizer", trainable=["lm"], weights={"lm": 1},
                    options={"lm_grad": "none"}),
        "joint": stage("second_order", init="lm", trainable=["lm", "fm"],
                       weights={"ce": 1, "kl": 0.1, "fm": 1}, options={"bridge": {"hard": False}}),
        "vocoder": stage("vocoder", weights={"mel": 1}), **stages}
    return build(RecipeConfig, {
        "corpus": {}, "stages": stages, "audio": {"mel_bands": BANDS},
        "vocoder": {"dim": 16, "layers": 1},
        "model": {"tokenizer": {"encoder": TRUNK, "levels": LEVELS, "q_dim": Q},
                  "lm": {"trunk": TRUNK}, "fm": {"trunk": TRUNK}, "rm": {"trunk": TRUNK},
                  "speaker": {"embedding_dim": SPEAKER_DIM, "dim": 8}}})


def test_a_stage_is_the_task_that_its_configuration_says():
    recipe = make_recipe()
    task = build_task(recipe, "tokenizer", VOCAB)
    assert isinstance(task, FirstOrderTask) and task.losses == {"lm", "fm", "ctc"}
    assert task.options.lm_grad == "inputs" and "tokenizer" in task.system.trainable
    assert set(task.train()(make_batch()).terms) == {"lm", "fm", "ctc"}
    task = build_task(recipe, "lm", VOCAB)
    assert task.options.lm_grad == "none" and task.system.trainable == ("lm",)
    task = build_task(recipe, "joint", VOCAB)
    assert isinstance(task, SecondOrderTask) and task.options.bridge.hard is False
    assert isinstance(build_task(recipe, "vocoder", VOCAB), VocoderTask)


def test_samples_of_a_stage_are_drawn_as_in_synthesis(monkeypatch):
    """They are what the alarms of training health judge."""
    sampling, seen = SamplingConfig(temperature=0.3, top_k=2, max_ratio=1.5), []
    recipe = replace(make_recipe(), synthesis=SynthesisConfig(sampling=sampling))
    generate = metrics.sample_tokens
    monkeypatch.setattr(metrics, "sample_tokens", lambda system, given, config: (
        seen.append(config) or generate(system, given, config)))
    for name in ("tokenizer", "lm", "joint"):
        got = build_task(recipe, name, VOCAB).eval().sample_metrics(make_batch(), 2)
        assert got["length_ratio"] > 0
    assert seen == [sampling] * 3


@pytest.mark.parametrize(("name", "cls", "loss", "options"), [
    ("grpo", GRPOTask, "policy", {"updates": 2, "clip": 0.2}),
    ("dpo", DPOTask, "dpo", {"beta": 0.2})])
def test_rewards_of_roll_outs_are_tasks_with_a_judge(name, cls, loss, options):
    options = {**options, "group": 3, "rollout_rows": 0.5, "reward": {"ctc": 1.0, "speaker": 0.1}}
    recipe = make_recipe(joint=stage(name, init="lm", judge="tokenizer", trainable=["lm"],
                                     weights={loss: 1, "ce": 1, "kl": 0.1}, options=options))
    first = build_task(recipe, "tokenizer", VOCAB).state_to_save()
    task = build_task(recipe, "joint", VOCAB, first, first)
    assert isinstance(task, cls) and task.options.reward.speaker == 0.1 and task.judge is not None
    out = task.eval()(make_batch())
    assert set(out.terms) == {loss, "ce", "kl"}
    recipe = make_recipe(joint=stage(name, init="lm", trainable=["lm"], weights={loss: 1},
                                     options={"group": 1}))
    with pytest.raises(UserError, match="stages.joint.options.group: roll-outs of the same text"):
        build_task(recipe, "joint", VOCAB, first)


def test_weights_come_from_the_seed_or_from_the_start():
    recipe = make_recipe()
    a, b = (build_task(recipe, "tokenizer", VOCAB).state_to_save() for _ in range(2))
    assert all(torch.equal(a[k], b[k]) for k in a)
    start = {k: v + 1 if v.is_floating_point() else v for k, v in a.items()}
    task = build_task(recipe, "joint", VOCAB, start)
    got = task.state_to_save()
    assert all(torch.equal(got[k], start[k]) for k in start)
    # The reference of the KL is the LM that the stage starts from, not one from the seed.
    for name, value in task.reference.state_dict().items():
        assert torch.equal(value, start[f"lm.{name}"])


def test_vocoder_starts_from_a_checkpoint_too():
    recipe = make_recipe()
    start = {k: v + 1 if v.is_floating_point() else v for k, v in
             build_task(recipe, "vocoder", VOCAB).vocoder.state_dict().items()}
    got = build_task(recipe, "vocoder", VOCAB, start).vocoder.state_dict()
    assert all(torch.equal(got[k], start[k]) for k in start)


@pytest.mark.parametrize(("changes", "message"), [
    ({"trainable": ["lm"], "task": "second_order", "weights": {"ctc": 1, "fm_q": 1}},
     "stages.tokenizer.weights: fm_q and coarse_q teach the FM alone"),
    ({"trainable": ["rm"], "task": "second_order", "weights": {"ctc": 1}},
     "stages.tokenizer.trainable: rm: the second order"),
    ({"weights": {"lmm": 1}}, "stages.tokenizer.weights: no such loss: lmm"),
    ({"weights": {"attention": 1}}, "model.rm.decoder_layers is 0: set its weight to 0"),
    ({"weights": {"emotion": 1}}, "the data have no emotion labels"),
    ({"options": {"lm_garb": "none"}}, "nearest known key: 'stages.tokenizer.options.lm_grad'"),
    ({"options": {"lm_grad": "all"}}, "'stages.tokenizer.options.lm_grad'")])
def test_what_the_task_does_not_have_is_refused(changes, message):
    recipe = make_recipe(tokenizer=stage(**{"trainable": ["lm"], "weights": {"lm": 1}, **changes}))
    with pytest.raises(UserError) as e:
        build_task(recipe, "tokenizer", VOCAB)
    assert message in str(e.value) and "\n" not in str(e.value)


def test_a_net_that_cannot_be_made_is_refused():
    recipe = make_recipe()
    tokenizer = replace(recipe.model.tokenizer, levels=(1, 5))
    recipe = replace(recipe, model=replace(recipe.model, tokenizer=tokenizer))
    with pytest.raises(UserError, match="section 'model'.*at least 2 levels"):
        build_task(recipe, "lm", VOCAB)


def test_a_stride_from_the_data_is_part_of_what_describes_the_lm():
    recipe = make_recipe()
    lm = replace(recipe.model.lm, text_stride="auto")
    auto = replace(recipe, model=replace(recipe.model, lm=lm))
    with pytest.raises(UserError, match="section 'model'.*prepare again"):
        build_task(auto, "lm", VOCAB)
    known = replace(VOCAB, mean_tokens_per_text_token=1.2)
    assert build_task(auto, "lm", known).system.lm.config.text_stride == 1.2
    stored, other = (model_config(auto, "lm", replace(VOCAB, mean_tokens_per_text_token=n))
                     for n in (1.2, 1.3))
    require_fit(stored, stored, ("lm",), "here")
    with pytest.raises(UserError, match=r"here: .*sizes\.text_stride"):
        require_fit(stored, other, ("lm",), "here")
    require_fit(stored, other, ("fm",), "here")
    # Where no stride comes from the data, what they are does not matter.
    assert model_config(recipe, "lm", known) == model_config(recipe, "lm", VOCAB)


def test_a_loss_that_is_off_is_not_wanted_and_one_that_begins_late_is():
    weights = {"lm": {"weight": 0.1, "delay": 0.5}, "fm": {"weight": 0.0}, "ctc": 1}
    recipe = make_recipe(tokenizer=stage(trainable=["lm", "rm"], weights=weights))
    assert build_task(recipe, "tokenizer", VOCAB).losses == {"lm", "ctc"}


def test_tensors_that_do_not_fit_are_refused():
    recipe = make_recipe()
    start = build_task(recipe, "tokenizer", VOCAB).state_to_save()
    del start["lm.speech_start"]
    with pytest.raises(UserError, match=r"stages\.lm\.init.*lm\.speech_start is missing"):
        build_task(recipe, "lm", VOCAB, start)


def test_sizes_and_model_config_are_what_data_and_recipe_decide():
    recipe = make_recipe()
    sizes = system_sizes(recipe, VOCAB)
    assert (sizes.text_vocab, sizes.languages, sizes.speakers, sizes.emotions) == (9, 2, 3, 0)
    assert sizes.mel_bands == BANDS and sizes.frames_per_token == 2
    assert set(model_config(recipe, "lm", VOCAB)) == {"audio", "text", "model", "sizes"}
    assert set(model_config(recipe, "vocoder", VOCAB)) == {"audio", "vocoder"}
    assert model_config(recipe, "lm", VOCAB) == model_config(recipe, "joint", VOCAB)


def judged():
    judge = stage(init={"tokenizer": "tokenizer"}, trainable=["rm"], weights={"ctc": 1})
    return make_recipe(judge=judge, joint=stage(
        "second_order", init="lm", judge="judge", trainable=["lm"], weights={"ce": 1, "ctc": 1}))


def test_a_part_without_source_is_initialised_anew_and_a_judge_is_the_rm_of_its_stage():
    recipe = judged()
    first = build_task(recipe, "tokenizer", VOCAB).state_to_save()
    kept = {k: v for k, v in first.items() if not k.startswith("rm.")}
    judge = build_task(recipe, "judge", VOCAB, kept).state_to_save()
    same = {k.partition(".")[0] for k in first if torch.equal(first[k], judge[k])
            and first[k].ndim > 1}
    assert same == {"tokenizer", "lm", "fm", "speaker"}
    task = build_task(recipe, "joint", VOCAB, first, judge)
    for k, v in task.judge.state_dict().items():
        assert torch.equal(v, judge[f"rm.{k}"])
    assert not any(p.requires_grad for p in task.judge.parameters())
    assert set(task.state_to_save()) == set(first)


def test_a_judge_of_other_tokens_is_refused():
    recipe = judged()
    first = build_task(recipe, "tokenizer", VOCAB).state_to_save()
    other = {k: v + 1 if v.is_floating_point() else v for k, v in first.items()}
    with pytest.raises(UserError, match="stages.joint.judge: .*another tokenizer"):
        build_task(recipe, "joint", VOCAB, first, other)
