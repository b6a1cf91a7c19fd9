import pytest
import torch
from tiny import EMOTIONS, make_batch, make_system, sizes, system_config, wake

from e2etts.nets.system import StyleConfig, System
from e2etts.tasks.first_order import FirstOrderOptions, FirstOrderTask
from e2etts.tasks.second_order import SecondOrderOptions, SecondOrderTask

BOTH = StyleConfig(dropout=0.0)


def lm_logits(system, batch, style):
    tokens = system.encode(batch.mel, batch.mel_lens)
    position = system.text_positions(tokens.q, tokens.lens, batch.text, batch.text_lens)
    return system.lm(condition(system, batch, style), tokens.q, tokens.lens, position).logits


def condition(system, batch, style):
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    return system.lm_condition(batch, speaker)._replace(style=style)


def fm_losses(system, batch, style):
    tokens = system.encode(batch.mel, batch.mel_lens)
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    torch.manual_seed(0)
    return system.fm.losses(tokens.q, system.normalise(batch.mel), batch.mel_lens, speaker, style)


def test_without_styles_nothing_is_there_and_nothing_is_drawn():
    system, styled = make_system(), make_system(style=BOTH)
    assert {k for k in styled.state_dict() if k not in system.state_dict()} == {
        "lm.style.weight", "fm.style.weight"}
    state = torch.get_rng_state()
    assert system.train().style_ids(torch.tensor([0, 1])) is None
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="no emotion labels"):
        System(system_config(style=BOTH), sizes(emotions=0))


@pytest.mark.parametrize("text_input", ["prefix", "aligned"])
def test_lm_and_fm_hear_the_style_and_none_is_a_style_of_its_own(text_input):
    system = wake(make_system(style=BOTH, text_input=text_input)).eval()
    batch = make_batch()
    first, second = torch.tensor([1, 1, 1]), torch.tensor([1, 2, 1])
    a, b = lm_logits(system, batch, first), lm_logits(system, batch, second)
    changed = (a - b).abs().amax((1, 2)) > 1e-4
    assert changed.tolist() == [False, True, False]
    none = lm_logits(system, batch, torch.zeros(3, dtype=torch.long))
    assert torch.equal(none, lm_logits(system, batch, None)) and not torch.allclose(none, a)
    losses = [fm_losses(system, batch, s) for s in (first, second, None)]
    for name in ("fm", "coarse"):
        assert len({round(x[name].item(), 6) for x in losses}) == 3


def test_a_style_of_the_lm_alone():
    system = make_system(style=StyleConfig(fm=False))
    assert system.fm.style is None and system.lm.style is not None


def test_decoding_starts_from_the_style_that_training_saw():
    system = wake(make_system(style=BOTH, text_input="aligned")).eval()
    batch, style = make_batch(), torch.tensor([2, 0, 1])
    logits = lm_logits(system, batch, style)
    state = system.lm.start(condition(system, batch, style), 4)
    torch.testing.assert_close(state.out.logits, logits[:, 0], atol=1e-5, rtol=1e-5)


def test_labels_are_hidden_in_training_only_and_as_often_as_asked():
    system = make_system(style=StyleConfig(dropout=0.3))
    label = torch.randint(0, EMOTIONS, (4000,))
    torch.manual_seed(0)
    style = system.train().style_ids(label)
    hidden = style == 0
    assert 0.27 < hidden.float().mean() < 0.33
    assert torch.equal(style[~hidden], label[~hidden] + 1)
    label[:100] = -1
    assert torch.equal(system.eval().style_ids(label), label + 1)


def test_gradient_reaches_the_styles_of_the_batch_and_no_others():
    batch = make_batch()
    batch.emotion[:] = torch.tensor([1, -1, 1])
    system = wake(make_system(style=BOTH))
    task = FirstOrderTask(system, FirstOrderOptions(), {"lm", "fm", "coarse"}).train()
    torch.manual_seed(0)
    sum(task(batch).terms.values()).backward()
    for net in (system.lm, system.fm):
        reached = net.style.weight.grad.abs().sum(1) > 0
        assert reached.tolist() == [True, False, True]


def test_the_reference_of_the_second_order_is_asked_for_the_same_style():
    """At the start LM and reference are one: any difference would be one of their inputs."""
    system = wake(make_system(style=StyleConfig(dropout=0.5)))
    system.train_only(["lm"])
    task = SecondOrderTask(system, SecondOrderOptions(), {"kl"}).train()
    for seed in range(3):
        torch.manual_seed(seed)
        assert float(task(make_batch()).terms["kl"].detach().abs()) < 1e-6
