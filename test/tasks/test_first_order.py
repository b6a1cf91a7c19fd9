from dataclasses import replace

import pytest
import torch
from tiny import make_batch, make_system, reached, unreached, wake

from e2etts.nets.lm import lm_loss, lm_targets
from e2etts.nets.system import PARTS
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.train.task import StepInfo

ALL = {"lm", "advance", "fm", "coarse", "ctc", "attention", "speaker", "emotion"}
REACH = {  # what each loss may and must teach
    "lm": {"tokenizer", "lm"}, "advance": {"tokenizer", "lm"}, "fm": {"tokenizer", "fm", "speaker"},
    "coarse": {"tokenizer", "fm", "speaker"}, "ctc": {"tokenizer", "rm"},
    "attention": {"tokenizer", "rm"}, "speaker": {"tokenizer", "rm"},
    "emotion": {"tokenizer", "rm"}}
OWN = {  # parameters of a reader that some of its losses alone teach, by how their names begin
    "lm": {"lm": ("head.",), "advance": ("advance.",)},
    "fm": {"fm": ("estimator.",), "coarse": ("coarse.",)},
    "rm": {"ctc": ("split.", "ctc."), "attention": ("decoder.", "text.", "head."),
           "speaker": ("pools.speaker.", "heads.speaker."),
           "emotion": ("pools.emotion.", "heads.emotion.")}}


def make(losses=ALL, trainable=PARTS, options=None, **changes):
    changes.setdefault("text_input", "aligned" if "advance" in losses else "prefix")
    system = wake(make_system(**changes), std=0.1)
    system.train_only(list(trainable))
    return FirstOrderTask(system, FirstOrderOptions(**options or {}), set(losses)).train()


def terms_of(task, batch):
    """With the same noise every time."""
    torch.manual_seed(0)
    return task(batch).terms


def gradients(loss, task):
    """By part, of all its parameters in one row."""
    named = dict(task.system.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
    parts = {part: [] for part in PARTS}
    for (name, p), grad in zip(named.items(), found, strict=True):
        grad = torch.zeros_like(p) if grad is None else grad
        parts[name.partition(".")[0]].append(grad.flatten())
    return {part: torch.cat(rows) for part, rows in parts.items()}


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_loss_reaches_what_it_should_and_nothing_else(name):
    task = make()
    task(make_batch()).terms[name].backward()
    got = {part for part in PARTS if reached(getattr(task.system, part))}
    assert got == REACH[name]
    if name != "coarse":
        assert not unreached(task.system.tokenizer)
    reader = next(part for part in OWN if name in OWN[part])
    others = tuple(p for loss, own in OWN[reader].items() if loss != name for p in own)
    assert set(unreached(getattr(task.system, reader))) == {
        n for n, _ in getattr(task.system, reader).named_parameters() if n.startswith(others)}


def test_speaker_loss_without_classes_teaches_the_same_parts():
    """The speaker encoder, whose embeddings are its targets, learns nothing from it."""
    task, batch = make(speaker_loss="embedding"), make_batch()
    loss = task(batch).terms["speaker"]
    loss.backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == REACH["speaker"]
    assert not unreached(task.system.tokenizer) and loss > 0
    hat = make({"lm", "speaker_hat"}, speaker_loss="embedding")
    hat(batch).terms["speaker_hat"].backward()
    assert {p for p in PARTS if reached(getattr(hat.system, p))} == {"tokenizer", "lm"}
    same = replace(batch, speaker=torch.ones_like(batch.speaker))
    assert task(same).terms["speaker"] == 0  # one speaker: nobody to tell apart


SWITCHES = [  # options, losses whose way to the tokenizer is cut, losses whose gradient is another
    ({"lm_grad": "none"}, {"lm", "advance"}, set()),
    ({"fm_grad": "none"}, {"fm", "coarse"}, set()),
    ({"lm_grad": "targets"}, {"advance"}, {"lm"}),
    ({"lm_grad": "inputs+soft-targets"}, set(), {"lm"})]


@pytest.mark.parametrize(("options", "cut", "changed"), SWITCHES)
def test_a_switch_changes_what_its_losses_teach_the_tokenizer_and_nothing_else(
        options, cut, changed):
    plain, task, batch = make(), make(options=options), make_batch()
    want, got = terms_of(plain, batch), terms_of(task, batch)
    for name in sorted(ALL):
        torch.testing.assert_close(got[name], want[name])
        before, after = gradients(want[name], plain), gradients(got[name], task)
        old, new = before.pop("tokenizer"), after.pop("tokenizer")
        torch.testing.assert_close(after, before)
        assert bool(new.any()) == (name not in cut), name
        if name not in cut:
            assert torch.allclose(new, old, atol=1e-6) == (name not in changed), name


def test_target_gradient_is_that_of_soft_targets():
    """Written out over the whole table: -sum_k p(k) log pi(k), pi held, over tokens and ends."""
    batch, got, seen = make_batch(), {}, {}
    for way in ("inputs", "targets", "inputs+soft-targets"):
        task = make({"lm"}, options={"lm_grad": way})
        task.system.lm.register_forward_hook(lambda m, i, out: seen.update(logits=out.logits))
        task.system.tokenizer.register_forward_hook(lambda m, i, out: seen.update(tokens=out))
        got[way] = gradients(terms_of(task, batch)["lm"], task)["tokenizer"]
    fsq, tokens = task.system.tokenizer.fsq, seen["tokens"]
    levels = torch.tensor(fsq.levels)
    digits = (tokens.bounded * 0.999 * levels + levels - 1) / 2
    away = (digits.unsqueeze(-2) - fsq.to_digits(torch.arange(fsq.codebook_size))).square().sum(-1)
    p = (-away / task.options.target_temperature).softmax(-1)
    log_pi = seen["logits"].detach().log_softmax(-1)
    total = sum(-(p[b, :n] * log_pi[b, :n, :-1]).sum() for b, n in enumerate(tokens.lens.tolist()))
    want = gradients(total / (tokens.lens + 1).sum(), task)["tokenizer"]
    assert want.any() and got["inputs"].any()
    torch.testing.assert_close(got["targets"], want, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(got["inputs+soft-targets"], got["inputs"] + want, atol=1e-6,
                               rtol=1e-4)


def test_an_lm_with_a_table_of_its_own_reads_it_and_teaches_it():
    with pytest.raises(ValueError, match=r"options\.lm_grad.*choose none or targets"):
        make(lm_input="table")
    make({"lm", "advance"}, ["lm"], lm_input="table")  # a frozen tokenizer is to learn nothing
    task, batch = make(options={"lm_grad": "none"}, lm_input="table"), make_batch()
    task(batch).terms["lm"].backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {"lm"}
    index = task.system.encode(batch.mel, batch.mel_lens).index
    used = {int(k) for b, n in enumerate((batch.mel_lens // 2).tolist()) for k in index[b, :n]}
    grad = task.system.lm.table.weight.grad.abs().sum(-1)
    assert set(grad.nonzero().flatten().tolist()) == used


def test_noise_is_for_the_rm_in_training_only(monkeypatch):
    task, batch, seen = make(options={"rm_noise": 0.5}), make_batch(), {}
    for name, part in (("rm", task.system.rm), ("fm", task.system.fm)):
        monkeypatch.setattr(part, "losses",
                            lambda q, *a, name=name, **k: seen.update({name: q}) or {})
    task(batch)
    noise, q = (seen["rm"] - seen["fm"]).detach(), seen["fm"].detach()
    assert float(noise.std() / q.std()) == pytest.approx(0.5, rel=0.1)
    seen["rm"].sum().backward()
    assert reached(task.system.tokenizer)
    task.eval()(batch)
    assert torch.equal(seen["rm"], seen["fm"])


def test_disabled_losses_are_not_run_in_training_and_always_in_evaluation():
    task, batch = make(), make_batch()
    del task.system.lm.head, task.system.fm.estimator
    info = StepInfo(disabled=frozenset({"lm", "advance", "fm", "ctc"}))
    assert set(task(batch, "main", info).terms) == ALL - info.disabled
    with pytest.raises(AttributeError, match="head"):
        task.eval()(batch)
    with pytest.raises(AttributeError, match="head"):  # "advance" needs the LM too
        task.train()(batch, "main", StepInfo(disabled=frozenset({"lm", "fm"})))


def test_lm_gradient_to_the_tokenizer_comes_through_its_inputs():
    """q of the last token is read for the end token only: what it is cannot be a target's doing."""
    task, batch = make(), make_batch()
    seen = {}
    task.system.tokenizer.register_forward_hook(
        lambda m, i, out: seen.update(q=out.q, index=out.index) or out.q.retain_grad())
    task(batch).terms["lm"].backward()
    assert not seen["index"].requires_grad
    q, system = seen["q"].detach().requires_grad_(), task.system
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens).detach()
    lens = batch.mel_lens // 2
    position = system.text_positions(q, lens, batch.text, batch.text_lens)
    out = system.lm(system.lm_condition(batch, speaker), q, lens, position)
    lm_loss(out.logits, lm_targets(seen["index"], lens, system.lm.end)).backward()
    torch.testing.assert_close(seen["q"].grad, q.grad)


@pytest.mark.parametrize("part", ["lm", "fm", "rm"])
def test_a_readers_own_stage_teaches_it_alone_on_fixed_tokens(part):
    losses = {"lm": {"lm", "advance"}, "fm": {"fm", "coarse"}, "rm": {"ctc", "speaker"}}[part]
    task, batch = make(losses, [part]), make_batch()
    statistics = {k: v.clone() for k, v in task.system.tokenizer.named_buffers()}
    out = task(batch)
    assert set(out.terms) == losses
    sum(out.terms.values()).backward()
    assert {p for p in PARTS if reached(getattr(task.system, p))} == {part}
    for k, v in task.system.tokenizer.named_buffers():
        assert torch.equal(v, statistics[k])
    names = {n for n, p in task.named_parameters() if p.requires_grad}
    assert all(n.startswith(f"system.{part}.") for n in names)
    assert len(task.parameters_of("main")) == len(names)


def test_readers_that_have_no_loss_are_not_run():
    task = make({"lm"})
    del task.system.fm, task.system.rm
    assert set(task(make_batch()).terms) == {"lm"}


def test_padding_changes_no_loss():
    task, batch = make().eval(), make_batch()
    names = ("lm", "advance", "ctc", "attention", "speaker", "emotion")
    want = task(batch).terms
    for field, size in (("mel", 2), ("reference_mel", 2)):
        lens = batch.mel_lens if field == "mel" else batch.reference_lens
        x = getattr(batch, field)
        for b, n in enumerate(lens.tolist()):
            x[b, n:] = 1e3 * torch.randn(x.shape[1] - n, x.shape[size])
    got = task(batch).terms
    for name in names:
        torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("changes", "missing"), [
    ({"decoder_layers": 0}, "attention"), ({"coarse": False}, "coarse"),
    ({"text_input": "prefix"}, "advance")])
def test_a_loss_that_the_model_cannot_give_is_refused(changes, missing):
    with pytest.raises(ValueError, match=missing):
        make(**changes)
    assert set(make(ALL - {missing}, **changes)(make_batch()).terms) == ALL - {missing}


def test_aligned_text_input_without_its_own_loss_is_refused():
    with pytest.raises(ValueError, match="advance"):
        make({"lm"}, text_input="aligned")


def test_a_batch_that_is_not_finite_gives_losses_that_are_not_and_no_error():
    """The training loop skips such a step and says which utterances it held."""
    task, batch = make(), make_batch()
    batch.mel[1, 3] = torch.nan
    terms = task(batch).terms
    assert not terms["lm"].isfinite() and not terms["advance"].isfinite()


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="ce.*losses: advance, attention, attention_hat, coarse"):
        make({"lm", "ce"})


def test_state_is_the_whole_system():
    task = make({"lm"}, ["lm"])
    assert set(task.state_to_save()) == set(task.system.state_dict())


def test_bf16_gives_finite_losses_and_gradients():
    task = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = task(make_batch()).terms
    sum(v.float() for v in terms.values()).backward()
    assert all(v.isfinite() for v in terms.values())
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


def test_one_batch_is_learnt_by_heart():
    """Every first-order term falls clearly within 60 joint steps."""
    system = make_system(text_input="aligned")
    weights = {"lm": 0.1, "advance": 0.1, "fm": 1.0, "coarse": 1.0, "ctc": 1.0, "attention": 1.0,
               "speaker": 0.1, "emotion": 0.1}
    task, batch = FirstOrderTask(system, FirstOrderOptions(), set(weights)).train(), make_batch()
    optimiser = torch.optim.AdamW(task.parameters(), lr=5e-3)
    history = []
    for _ in range(60):
        terms = task(batch).terms
        optimiser.zero_grad()
        sum(weights[k] * v for k, v in terms.items()).backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimiser.step()
        history.append({k: float(v.detach()) for k, v in terms.items()})
    first, last = ({k: sum(h[k] for h in some) / len(some) for k in weights}
                   for some in (history[:5], history[-5:]))
    fall = {k: round(last[k] / first[k], 2) for k in weights}
    assert max(fall.values()) < 0.85, fall  # the mel is noise: flow and coarse mel fall slowly
    assert max(fall[k] for k in ("ctc", "attention", "speaker", "emotion")) < 0.5, fall


def test_frozen_statistics_are_those_of_evaluation():
    task, batch = make({"ctc"}, options={"frozen_statistics": 0.5}), make_batch()
    fsq, seen = task.system.tokenizer.fsq, []
    task.system.tokenizer.register_forward_hook(lambda m, i, out: seen.append(out))

    def step(progress, batch=batch):
        return task(batch, "main", StepInfo(progress)).terms["ctc"]
    for seed in (1, 2, 0):
        step(0.49, make_batch(seed))
    assert fsq.updates == 3
    kept = {k: v.clone() for k, v in fsq.named_buffers()}
    step(0.5).backward()
    assert not unreached(task.system.tokenizer)
    assert all(torch.equal(v, kept[k]) for k, v in fsq.named_buffers())
    task.eval()
    task(batch)
    assert torch.equal(seen[-1].q, seen[-2].q) and torch.equal(seen[-1].index, seen[-2].index)
    assert not torch.equal(seen[-1].q, seen[-3].q)
    task.train()  # as after a validation
    step(0.9)
    assert torch.equal(seen[-1].q, seen[-2].q) and fsq.updates == 3
    # No row depends on another one any more.
    mel = batch.mel.clone().requires_grad_()
    q = task.system.encode(mel, batch.mel_lens).q
    q[0].sum().backward()
    assert mel.grad[0].abs().sum() > 0 and mel.grad[1:].abs().sum() == 0


@pytest.mark.parametrize("options", [None, {"frozen_statistics": 0.9}])
def test_statistics_are_those_of_the_batch_until_they_are_frozen(options):
    task = make({"ctc"}, options=options)
    a, b = make_batch(0), make_batch(1)
    first = task(a, "main", StepInfo(0.8)).terms["ctc"]
    task(b, "main", StepInfo(0.8))
    assert torch.equal(first, task(a, "main", StepInfo(0.8)).terms["ctc"])
    assert task.system.tokenizer.fsq.updates == 3


@pytest.mark.parametrize(("more", "message"), [
    ({"trainable": ["lm"]}, "this tokenizer is frozen"), ({"kind": "codes"}, "without statistics")])
def test_statistics_of_other_tokenizers_are_not_frozen(more, message):
    with pytest.raises(ValueError, match=rf"options\.frozen_statistics: .*{message}"):
        make({"lm"}, options={"frozen_statistics": 0.5, "lm_grad": "none"}, **more)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_of_training_is_within_it(share):
    with pytest.raises(ValueError, match="frozen_statistics must be more than 0 and less than 1"):
        FirstOrderOptions(frozen_statistics=share)
