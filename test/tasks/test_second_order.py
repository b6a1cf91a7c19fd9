import copy
from dataclasses import replace

import pytest
import torch
from tiny import make_batch, make_system, reached, unreached, wake

from e2etts.infer.sampling import Rollout, roll_out
from e2etts.nets.bridge import BridgeConfig
from e2etts.nets.lm import LMOutput, lm_targets
from e2etts.nets.system import PARTS
from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.tasks.rollouts import RewardConfig
from e2etts.tasks.second_order import LOSSES, PolicyConfig, SecondOrderOptions, SecondOrderTask
from e2etts.train.task import StepInfo

SHORT = SamplingConfig(min_ratio=1.0, max_tokens_per_text_token=2, top_p=1.0, top_k=0)


def make(losses=LOSSES, trainable=("lm", "fm"), options=None, **changes):
    changes.setdefault("text_input", "aligned" if "advance" in losses else "prefix")
    system = wake(make_system(**changes), std=0.1)
    system.train_only(list(trainable))
    if "policy" in losses:  # roll-outs that end
        options = {"group": 4, "sampling": SHORT, **(options or {})}
    return SecondOrderTask(system, SecondOrderOptions(**options or {}), set(losses)).train()


KEPT = {"fm_q", "coarse_q"}


@pytest.mark.parametrize("name", sorted(LOSSES - KEPT - {"kl"}))
def test_each_loss_reaches_the_lm_and_no_frozen_part(name):
    task, batch = make(), make_batch()
    out = task(batch)
    assert set(out.terms) == LOSSES
    out.terms[name].backward()
    got = {part for part in PARTS if reached(getattr(task.system, part))}
    assert got == ({"lm", "fm"} if name in ("fm", "coarse") else {"lm"})
    assert not reached(task.reference)
    other_head = "head." if name == "advance" else "advance."
    assert all(n.startswith(other_head) for n in unreached(task.system.lm))
    for part in ("tokenizer", "rm", "speaker"):
        assert all(p.grad is None for p in getattr(task.system, part).parameters())


def test_speaker_loss_without_classes_reaches_the_lm_alone():
    task = make({"ce", "speaker"}, ["lm"], speaker_loss="embedding")
    task(make_batch()).terms["speaker"].backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"lm"}
    rolled = free("prefix", {"speaker"}, speaker_loss="embedding").eval()
    assert "speaker" in rolled(make_batch()).terms


@pytest.mark.parametrize("name", sorted(KEPT))
def test_fm_is_kept_to_the_recording_as_in_the_first_order(name):
    task, batch = make(KEPT), make_batch()
    torch.manual_seed(0)
    terms = task(batch).terms
    terms[name].backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"fm"}
    first = FirstOrderTask(task.system, FirstOrderOptions(), {"fm", "coarse"}).train()
    torch.manual_seed(0)
    want = first(batch).terms
    torch.testing.assert_close(terms, {f"{k}_q": v for k, v in want.items()})


def test_frozen_fm_still_judges_the_lm():
    task = make({"fm", "coarse"}, ["lm"])
    sum(task(make_batch()).terms.values()).backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"lm"}


def test_frozen_parts_keep_statistics_and_mode():
    task, batch = make(), make_batch()
    before = {k: v.clone() for k, v in task.system.tokenizer.named_buffers()}
    task(batch)
    for k, v in task.system.tokenizer.named_buffers():
        assert torch.equal(v, before[k])
    assert task.system.lm.training and not task.system.rm.training
    assert not any(m.training for m in task.reference.modules())
    names = {n for n, p in task.named_parameters() if p.requires_grad}
    assert names and all(n.startswith(("system.lm.", "system.fm.")) for n in names)


def test_kl_is_zero_at_the_start_and_that_of_the_distributions_later():
    task, batch = make({"kl"}), make_batch()
    start = task(batch).terms["kl"]
    assert abs(start) < 1e-6
    start.backward()
    grads = [p.grad.abs().max() for p in task.system.lm.parameters() if p.grad is not None]
    assert max(grads) < 1e-5
    wake(task.system.lm, seed=5, std=0.1)
    system = task.system
    with torch.no_grad():
        tokens = system.encode(batch.mel, batch.mel_lens)
        speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
        given = (system.lm_condition(batch, speaker), tokens.q, tokens.lens)
        p, r = (lm(*given).logits.softmax(-1) for lm in (system.lm, task.reference))
        total = sum(float((p[b, : n + 1] * (p[b, : n + 1] / r[b, : n + 1]).log()).sum())
                    for b, n in enumerate(tokens.lens.tolist()))
        want = total / float((tokens.lens + 1).sum())
    got = task(batch).terms["kl"]
    assert want > 1e-3 and abs(float(got.detach()) - want) < 1e-4


def test_cross_entropy_is_the_first_order_loss():
    task, batch = make({"ce"}), make_batch()
    first = FirstOrderTask(task.system, FirstOrderOptions(), {"lm"})
    torch.testing.assert_close(task(batch).terms["ce"], first(batch).terms["lm"])


def test_readers_get_codes_of_the_table_sampled_from_the_lm(monkeypatch):
    task, batch = make({"ctc"}), make_batch()
    system, seen = task.system, {}
    monkeypatch.setattr(system.rm, "losses", lambda q, lens, *a: seen.update(q=q, lens=lens) or {
        "ctc": q.sum()})
    out = task(batch)
    q, table = seen["q"], system.tokenizer.codebook()
    assert q.shape == (3, 12, table.shape[1]) and torch.equal(seen["lens"], batch.mel_lens // 2)
    assert (q.unsqueeze(2) == table).all(-1).any(-1).all()
    assert 0 <= out.metrics["sampled_the_recording"] <= 1


def test_certain_lm_says_the_recording():
    """Row t is sampled for token t: an LM that is sure of the targets gives q itself."""
    task, batch = make({"ce", "ctc"}), make_batch()
    system = task.system
    tokens = system.encode(batch.mel, batch.mel_lens)
    targets = lm_targets(tokens.index, tokens.lens, system.lm.end).clamp_min(0)
    logits = 100.0 * torch.nn.functional.one_hot(targets, system.lm.end + 1)
    system.lm.forward = lambda *a: LMOutput(logits, None)
    out = task(batch)
    assert out.metrics["sampled_the_recording"] == 1 and out.metrics["lm_entropy"] < 1e-3
    assert out.terms["ce"] < 1e-3
    want = system.rm.losses(tokens.q, tokens.lens, batch.text, batch.text_lens, batch.speaker,
                            batch.emotion)["ctc"]
    torch.testing.assert_close(out.terms["ctc"], want)


@pytest.mark.parametrize("bridge", [
    BridgeConfig(hard=False), BridgeConfig(noise=False), BridgeConfig(temperature=0.5),
    BridgeConfig(final_temperature=0.3), BridgeConfig(top_p=0.8, top_k=25),
    BridgeConfig(sampling_temperature=0.7)])
def test_every_bridge_teaches_the_lm(bridge):
    system = wake(make_system(), std=0.1)
    system.train_only(["lm"])
    task = SecondOrderTask(system, SecondOrderOptions(bridge=bridge), {"ctc"}).train()
    task(make_batch()).terms["ctc"].backward()
    assert {p for p in PARTS if reached(getattr(system, p))} == {"lm"}


def test_bf16_samples_are_codes_and_gradients_finite():
    task = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = task(make_batch())
    sum(v.float() for v in out.terms.values()).backward()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)
    assert out.metrics["sampled_the_recording"].isfinite()


def test_reference_is_not_saved_and_not_changed_by_training():
    task = make()
    before = copy.deepcopy(task.reference.state_dict())
    optimiser = torch.optim.AdamW(task.parameters_of("main"), lr=1e-2)
    sum(task(make_batch()).terms.values()).backward()
    optimiser.step()
    assert all(torch.equal(v, before[k]) for k, v in task.reference.state_dict().items())
    assert not torch.equal(task.system.lm.head.codes.weight, before["head.codes.weight"])
    assert set(task.state_to_save()) == set(task.system.state_dict())


def test_unknown_or_absent_loss_is_refused():
    with pytest.raises(ValueError, match="no such loss: lm"):
        make({"lm", "ce"})
    with pytest.raises(ValueError, match="decoder_layers is 0"):
        make({"attention"}, decoder_layers=0)


def test_several_samples_are_averaged():
    one, three = make({"ctc", "kl"}), make({"ctc", "kl"}, options={"samples": 3})
    batch = make_batch()
    wake(one.system.lm, seed=5), wake(three.system.lm, seed=5)
    torch.manual_seed(0)
    each = [one(batch).terms for _ in range(3)]
    torch.manual_seed(0)
    got = three(batch).terms
    torch.testing.assert_close(got["ctc"], sum(terms["ctc"] for terms in each) / 3)
    torch.testing.assert_close(got["kl"], each[0]["kl"])
    assert len({float(terms["ctc"].detach()) for terms in each}) == 3


def test_annealing_follows_the_progress_of_training():
    grads = []
    for progress in (0.0, 1.0):
        bridge = BridgeConfig(final_temperature=0.1)
        task = make({"ctc"}, options={"bridge": bridge})
        torch.manual_seed(0)
        loss = task(make_batch(), "main", StepInfo(progress)).terms["ctc"]
        loss.backward()
        grads.append((float(loss.detach()), task.system.lm.head.digits.weight.grad))
    assert grads[0][0] == grads[1][0] and not torch.allclose(grads[0][1], grads[1][1])


def test_reward_teaches_logits_of_speech_at_spoken_places_only():
    """Not those of the end token, of the row that ends, or of padding."""
    task, batch, seen = make({"ctc", "fm"}), make_batch(), {}
    task.system.lm.head.register_forward_hook(
        lambda m, i, out: out.retain_grad() or seen.update(logits=out))
    sum(task(batch).terms.values()).backward()
    grad, end = seen["logits"].grad, task.system.lm.end
    assert not grad[..., end].any()
    for b, n in enumerate((batch.mel_lens // 2).tolist()):
        assert (grad[b, :n, :end].abs().sum(-1) > 0).all() and not grad[b, n:].any()


def free(text_input, losses, count=2, **changes):
    """Free-running; greedy decoding, so that the samples of the LM follow from its logits."""
    sampling = SamplingConfig(temperature=0.0, repeat_window=0, top_k=1, min_ratio=1.0)
    kept = {"ce", "advance"} if text_input == "aligned" else {"ce"}
    return make(losses | kept, ["lm"], text_input=text_input, **changes, options={
        "history": "free-running", "samples": count, "sampling": sampling})


@pytest.mark.parametrize(("text_input", "lm_input"), [
    ("prefix", "q"), ("aligned", "q"), ("prefix", "table"), ("aligned", "table")])
def test_free_running_reads_its_own_roll_outs_again(text_input, lm_input, monkeypatch):
    """The logits of the roll-out, read again, are those it was sampled from, and the RM judges this
    very roll-out."""
    task, batch = free(text_input, {"ctc", "speaker"}, lm_input=lm_input).eval(), make_batch()
    system, seen = task.system, {}
    judge = system.rm.losses
    monkeypatch.setattr(system.rm, "losses", lambda q, *a: seen.update(q=q) or judge(q, *a))
    system.lm.register_forward_hook(lambda m, i, out: seen.update(out=out))
    torch.manual_seed(0)
    got = task(batch)
    torch.manual_seed(0)
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    made = roll_out(system, system.lm_condition(batch, speaker), task.options.sampling,
                    candidates=2)
    twice = torch.arange(3).repeat_interleave(2)
    assert got.metrics["rollouts_kept"] == 1 and len(made.lens) == 6
    said = seen["out"].logits[:, :-1, : system.lm.end].argmax(-1)
    for b, n in enumerate(made.lens.tolist()):
        assert n > 0 and torch.equal(said[b, :n], made.index[b, :n])
        if text_input == "aligned" and n > 1:
            moves = made.position[b, 1:n].diff(prepend=torch.tensor([-1]))
            assert moves.any()
    torch.testing.assert_close(seen["q"], system.tokenizer.codebook()[made.index])
    want = judge(seen["q"], made.lens, batch.text[twice], batch.text_lens[twice],
                 batch.speaker[twice], batch.emotion[twice])
    for name in ("ctc", "speaker"):
        torch.testing.assert_close(got.terms[name], want[name])


@pytest.mark.parametrize("text_input", ["prefix", "aligned"])
@pytest.mark.parametrize("name", ["ctc", "speaker", "kl", "ce"])
def test_free_running_losses_reach_the_lm_alone(name, text_input):
    task = free(text_input, {name}).eval()
    if name == "kl":
        wake(task.system.lm, seed=5)
    task(make_batch()).terms[name].backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"lm"}


def test_roll_outs_that_repeat_or_do_not_end_teach_nothing(monkeypatch):
    task, batch = free("prefix", {"ctc"}, count=1), make_batch()
    task.options = replace(task.options, longest_repeat=4)
    system, seen = task.system, {}
    index = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8], [9, 1, 2, 1, 2, 1, 2, 1],
                          [3, 4, 5, 6, 7, 0, 0, 0]])
    made = Rollout(index, torch.tensor([8, 8, 5]), torch.tensor([False, True, True]), None)
    monkeypatch.setattr("e2etts.tasks.rollouts.roll_out", lambda *a, **k: made)
    judge = system.rm.losses
    monkeypatch.setattr(system.rm, "losses",
                        lambda q, *a: seen.update(q=q, rest=a) or judge(q, *a))
    out = task(batch)
    assert out.metrics["rollouts_kept"] == pytest.approx(1 / 3)
    torch.testing.assert_close(seen["q"], system.tokenizer.embed(index[2:]))
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    for got, want in zip(seen["rest"], (made.lens, batch.text, batch.text_lens, batch.speaker,
                                        batch.emotion, speaker), strict=True):
        assert torch.equal(got, want[2:])
    made = made._replace(ended=torch.zeros(3, dtype=torch.bool))
    out = task(batch)
    assert set(out.terms) == {"ce"} and out.metrics["rollouts_kept"] == 0
    out.terms["ce"].backward()
    out = task.eval()(batch)  # what is judged on the dev set is what there is
    assert set(out.terms) == {"ce", "ctc"} and len(seen["q"]) == 3


@pytest.mark.parametrize(("losses", "trainable", "options", "message"), [
    ({"ctc"}, ["lm", "rm"], {}, "trainable: rm: the second order trains lm and fm"),
    ({"ctc"}, ["lm", "tokenizer"], {}, "trainable: tokenizer"),
    ({"ctc", "fm"}, ["lm"], {"history": "free-running"}, "weights: fm and coarse"),
    ({"ctc", "fm_q"}, ["lm"], {}, "weights: fm_q and coarse_q"),
    ({"ctc"}, ["lm"], {"history": "free-running", "bridge": BridgeConfig(top_p=0.8)},
     "options.bridge"),
    ({"ctc"}, ["lm"], {"history": "free-running", "sampling": SamplingConfig(min_ratio=0.4)},
     "options.sampling.min_ratio.*leave it out"),
    ({"ctc"}, ["lm"], {"history": "free-running"}, "weights: without 'ce'")])
def test_what_would_be_half_done_is_refused(losses, trainable, options, message):
    with pytest.raises(ValueError, match=message):
        make(losses, trainable, options=options)


def test_free_running_takes_the_lengths_that_the_rm_can_read():
    """Two CTC labels a speech token, as here: half a speech token per text token is enough."""
    task = make({"ctc", "ce"}, ["lm"], options={
        "history": "free-running", "sampling": SamplingConfig(min_ratio=0.5)})
    assert task.options.sampling.min_ratio == 0.5
    assert make({"ctc", "ce"}, ["lm"], options={"history": "free-running"}).reads_rollouts


# Policy and mixed histories

MIXED = {"history": "mixed", "group": 3, "sampling": SHORT}


def values(task, batch, seed=0):
    torch.manual_seed(seed)
    out = task(batch)
    return {k: v.detach() for k, v in out.terms.items()}, out


@pytest.mark.parametrize("text_input", ["prefix", "aligned"])
def test_mixed_reads_both_histories(text_input, monkeypatch):
    """FM and RM the samples on recordings as in "teacher-forced", the RM roll-outs as in
    "free-running", with the weights of their shares."""
    losses = {"ce", "kl", "fm", "coarse", "fm_q", "coarse_q", "ctc", "speaker"}
    losses |= {"advance"} if text_input == "aligned" else set()
    options = {**MIXED, "samples": 2, "free_share": 0.25}
    forced = make(losses, text_input=text_input, options={"samples": 2}).eval()
    mixed = make(losses, text_input=text_input, options=options).eval()
    for task in (forced, mixed):
        wake(task.system.lm, seed=5, std=0.05)
    batch, read = make_batch(), []
    alone, _ = values(forced, batch)
    judge, predict = mixed.system.rm.losses, mixed.predicted_by_reference
    monkeypatch.setattr(mixed.system.rm, "losses", lambda q, *a: (
        read.append((q, judge(q, *a))) or read[-1][1]))
    seen = []
    monkeypatch.setattr(mixed, "predicted_by_reference",
                        lambda history: seen.append(history) or predict(history))
    got, out = values(mixed, batch)
    for name in ("ce", "fm", "coarse", "fm_q", "coarse_q"):
        torch.testing.assert_close(got[name], alone[name])
    assert len(read) == 3 and len(read[2][0]) == 9 and len(read[0][0]) == 3
    for name in ("ctc", "speaker"):
        torch.testing.assert_close(got[name], 0.75 * alone[name] + 0.25 * read[2][1][name].detach())
    assert not torch.equal(got["kl"], alone["kl"]) and len(seen) == 2
    assert seen[0].ended is None and bool((seen[1].lens > 0).all())
    assert {"sampled_the_recording", "rollouts_kept", "reward"} <= set(out.metrics)
    assert len(out.embeddings) == 3


def test_mixed_without_roll_outs_is_teacher_forced(monkeypatch):
    losses = {"ce", "kl", "advance", "fm", "ctc"}
    forced, mixed = make(losses), make(losses, options=MIXED)
    alone, _ = values(forced, make_batch())
    real = roll_out
    monkeypatch.setattr("e2etts.tasks.rollouts.roll_out", lambda *a, **k: real(*a, **k)._replace(
        ended=torch.zeros(9, dtype=torch.bool)))
    got, out = values(mixed, make_batch())
    assert out.metrics["rollouts_kept"] == 0
    torch.testing.assert_close(got, alone)


@pytest.mark.parametrize("history", ["teacher-forced", "free-running", "mixed"])
def test_policy_stands_beside_gumbel_at_every_history(history):
    """It does not change the other losses, and reaches what they do not: end and advance."""
    losses = {"ce", "advance", "ctc"}
    options = {"history": history, "group": 3, "sampling": SHORT, "packed": True}
    with_it = make(losses | {"policy"}, ["lm"], options=options)
    if history == "teacher-forced":
        options = {}
    without = make(losses, ["lm"], options=options)
    batch = make_batch()
    (got, out), (want, _) = values(with_it, batch), values(without, batch)
    assert set(got) == {*want, "policy"}
    torch.testing.assert_close({k: got[k] for k in want}, want)
    torch.testing.assert_close(got["policy"], -out.metrics["reward"])
    lm = with_it.system.lm
    for name, reaches in (("policy", True), ("ctc", False)):
        with_it.system.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        with_it(batch).terms[name].backward()
        assert reached(lm.advance) == reaches
        assert {p for p in PARTS if reached(getattr(with_it.system, p))} == {"lm"}
    ended = StepInfo(0.5, frozenset({"policy"}))
    metrics = with_it(batch, "main", ended).metrics
    assert ("reward" in metrics) == (history != "teacher-forced")


def test_policy_without_tokens_leaves_the_choice_among_codes_alone():
    """Its gradient at the codes' logits is a multiple of their probabilities: that of going on."""
    task, seen = make({"policy", "ce", "advance"}, ["lm"]), []
    task.system.lm.head.register_forward_hook(
        lambda m, i, out: (out.retain_grad() if out.requires_grad else None) or seen.append(out))
    torch.manual_seed(0)
    task(make_batch()).terms["policy"].backward()
    logits, end = seen[-1], task.system.lm.end
    rows = logits.grad.abs().sum(-1) > 1e-6
    assert bool(rows.any())
    ratio = logits.grad[rows][:, :end] / logits.detach()[rows][:, :end].softmax(-1)
    spread = ratio.amax(-1) - ratio.amin(-1)
    assert float((spread / ratio.abs().amax(-1)).max()) < 1e-2


def test_kl_holds_the_advance_where_the_policy_teaches_it():
    batch, found = make_batch(), []
    for losses in ({"kl", "ce", "advance"}, {"kl", "ce", "advance", "policy"}):
        task = make(losses, ["lm"])
        with torch.no_grad():
            task.system.lm.advance.bias += torch.tensor([2.0, 0, 0, 0, 0])
        found.append(float(task(batch).terms["kl"].detach()))
    assert abs(found[0]) < 1e-6 and found[1] > 0.05


@pytest.mark.parametrize(("losses", "options", "message"), [
    ({"ctc", "ce"}, {"policy": PolicyConfig(tokens=True)}, "options.policy: has no effect"),
    ({"ctc", "ce"}, {"group": 2}, "options.group: has no effect"),
    ({"ctc", "ce"}, {"rollout_rows": 0.5}, "options.rollout_rows: has no effect"),
    ({"ctc", "ce"}, {"packed": True}, "options.packed: has no effect"),
    ({"ctc", "ce"}, {"reward": RewardConfig(speaker=0.1)}, "options.reward: has no effect"),
    ({"ctc", "ce", "policy"}, {"free_share": 0.3}, "options.free_share: has no effect"),
    ({"fm", "ce"}, {"history": "mixed"}, "options.history: no loss of these weights reads"),
    ({"ctc"}, {"history": "mixed"}, "weights: without 'ce'"),
    ({"policy"}, {"group": 1}, "options.group: .*set it to 2"),
    ({"policy"}, {"group": None}, "options.group: .*set it to 2"),
    ({"policy"}, {"sampling": SamplingConfig(min_ratio=0.4)}, "options.sampling.min_ratio"),
    ({"policy"}, {"reward": RewardConfig(attention=1.0)}, "options.reward: no loss 'attention'"),
    ({"ctc", "ce"}, {"history": "mixed", "free_share": 1.0}, "free_share must be"),
    ({"ctc", "ce"}, {"history": "mixed", "bridge": BridgeConfig(top_p=0.8)}, "options.bridge")])
def test_senseless_roll_outs_are_refused(losses, options, message):
    with pytest.raises(ValueError, match=message):
        make(losses, ["lm"], options=options, decoder_layers=0)
