import copy

import pytest
import torch
from tiny import make_batch, make_system, reached, unreached, wake

from e2etts.nets.bridge import BridgeConfig
from e2etts.nets.lm import LMOutput, lm_targets
from e2etts.nets.system import PARTS
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.tasks.second_order import LOSSES, SecondOrderOptions, SecondOrderTask


def make(losses=LOSSES, trainable=("lm", "fm"), **changes):
    changes.setdefault("reading", "aligned" if "advance" in losses else "prefix")
    system = wake(make_system(**changes), std=0.1)
    system.train_only(list(trainable))
    return SecondOrderTask(system, SecondOrderOptions(), set(losses)).train()


@pytest.mark.parametrize("name", sorted(LOSSES - {"kl"}))
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
        voice = system.voice(batch.voice_mel, batch.voice_lens)
        given = (batch.text, batch.text_lens, batch.language, voice, tokens.q, tokens.lens)
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


@pytest.mark.parametrize("bridge", [BridgeConfig(hard=False), BridgeConfig(noise=False),
                                    BridgeConfig(temperature=0.5)])
def test_every_bridge_teaches_the_lm(bridge):
    system = wake(make_system(), std=0.1)
    system.train_only(["lm"])
    task = SecondOrderTask(system, SecondOrderOptions(bridge=bridge), {"ctc"}).train()
    task(make_batch()).terms["ctc"].backward()
    assert reached(system.lm)


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


def test_ten_steps_raise_the_reward_of_fresh_samples():
    """RM learns that a token says the first digit of its code; the LM, taught by that reward alone
    through the bridge, then says more of its text than before. Judged on hard samples; taught on
    mixtures, because so few steps of the straight-through gradient drown in its noise."""
    system = make_system(decoder_layers=0)
    table, tokens = system.tokenizer.codebook().detach(), 8
    lens = torch.full((6,), tokens)
    optimiser = torch.optim.AdamW(system.rm.parameters(), lr=1e-2)
    for _ in range(60):
        index = torch.randint(0, len(table), (6, tokens))
        loss = system.rm.ctc_loss(system.rm.encode(table[index], lens), lens, index % 4, lens)
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    assert loss.mean() < 0.5
    batch = make_batch(frames=(16, 16), letters=(8, 8))
    batch.text[0], batch.text[1] = 1, 2
    system.train_only(["lm"])
    soft = SecondOrderOptions(bridge=BridgeConfig(hard=False))
    task = SecondOrderTask(system, soft, {"ctc"}).train()
    judge = SecondOrderTask(system, SecondOrderOptions(), {"ctc"}).train()

    @torch.no_grad()
    def reward_loss():
        torch.manual_seed(99)  # the noise of these samples is never seen in training
        return sum(float(judge(batch).terms["ctc"]) for _ in range(8)) / 8
    before = reward_loss()
    optimiser = torch.optim.AdamW(task.parameters_of("main"), lr=2e-2)
    for step in range(10):
        torch.manual_seed(step)
        optimiser.zero_grad()
        task(batch).terms["ctc"].backward()
        optimiser.step()
    after = reward_loss()
    assert after < 0.7 * before, (before, after)
