import pytest
import torch
from tiny import BANDS, SPEAKER_DIM, Q, trunk, unreached, wake

from e2etts.nets import fm as fm_module
from e2etts.nets.estimator import Condition, time_embedding
from e2etts.nets.flow import FlowConfig, SolverConfig
from e2etts.nets.fm import FM, FMConfig
from e2etts.nets.sequence import length_mask

KINDS = [(patch, coarse) for patch in (1, 2) for coarse in (True, False)]


def make(patch=2, coarse=True, awake=True, **changes):
    torch.manual_seed(0)
    config = FMConfig(trunk=trunk(), encoder_layers=1, patch_frames=patch, coarse=coarse,
                      **changes)
    net = FM(config, q_dim=Q, speaker_dim=SPEAKER_DIM, mel_bands=BANDS, frames_per_token=2)
    return (wake(net, std=0.1) if awake else net).eval()


def given(rows=3):
    g = torch.Generator().manual_seed(1)
    return dict(q=torch.randn(rows, 8, Q, generator=g),
                mel=torch.randn(rows, 16, BANDS, generator=g),
                mel_lens=torch.tensor([16, 6, 10])[:rows],
                speaker=torch.randn(rows, SPEAKER_DIM, generator=g))


@pytest.fixture
def no_chance(monkeypatch):
    """Noise and times that do not depend on the shape of the batch."""
    def rand(size, device=None):
        return torch.full((size,), 0.5)

    def randn_like(x):
        row = torch.sin(torch.arange(x[0].numel()) * 1.7).view(x.shape[1:])
        return row.expand_as(x)
    monkeypatch.setattr(torch, "rand", rand)
    monkeypatch.setattr(torch, "randn_like", randn_like)


@pytest.mark.parametrize(("patch", "coarse"), KINDS)
def test_losses_of_a_padded_batch_are_those_of_its_items(patch, coarse, no_chance):
    """prompt_share 0.6 > 0.5: every row is prompted with half of prompt_max of its length."""
    net, batch = make(patch, coarse, prompt_share=0.6, prompt_max=0.5), given()
    got = net.losses(**batch)
    assert set(got) == ({"fm", "coarse"} if coarse else {"fm"})
    total, count = dict.fromkeys(got, 0.0), 0
    for b, n in enumerate(batch["mel_lens"].tolist()):
        alone = net.losses(batch["q"][b : b + 1, : n // 2], batch["mel"][b : b + 1, :n],
                           torch.tensor([n]), batch["speaker"][b : b + 1])
        weight = n // patch - int(n // patch * 0.25)
        count += weight
        for name in got:
            total[name] += alone[name] * weight
    for name in got:
        torch.testing.assert_close(got[name], total[name] / count, atol=1e-4, rtol=1e-4)


def test_the_flow_loss_of_some_rows_is_that_of_these_and_the_coarse_loss_of_all(no_chance):
    net, batch, rows = make(), given(), torch.tensor([2, 0])
    got = net.losses(**batch, flow_rows=rows)
    torch.testing.assert_close(got["coarse"], net.losses(**batch)["coarse"])
    few = net.losses(*(batch[k][rows] for k in ("q", "mel", "mel_lens", "speaker")))
    torch.testing.assert_close(got["fm"], few["fm"])


@pytest.mark.parametrize(("patch", "coarse"), KINDS)
def test_sample_is_a_mel_and_padding_changes_nothing(patch, coarse):
    net, batch = make(patch, coarse), given()
    lens = batch["mel_lens"] // 2
    out = net.sample(batch["q"], lens, batch["speaker"])
    assert out.shape == (3, 16, BANDS) and out.isfinite().all()
    zeros = SolverConfig(steps=3, temperature=0.0)
    out = net.sample(batch["q"], lens, batch["speaker"], solver=zeros)
    for b, n in enumerate(lens.tolist()):
        alone = net.sample(batch["q"][b : b + 1, :n], lens[b : b + 1], batch["speaker"][b : b + 1],
                           solver=zeros)
        torch.testing.assert_close(out[b, : 2 * n], alone[0], atol=1e-5, rtol=1e-5)


def test_zero_steps_give_the_coarse_mel():
    net, batch = make(), given()
    lens = batch["mel_lens"] // 2
    out = net.sample(batch["q"], lens, batch["speaker"], solver=SolverConfig(steps=0))
    patches = batch["q"].new_zeros(3, 8, 2 * BANDS)
    _, coarse = net._encode(batch["q"], batch["speaker"], patches,
                            torch.zeros(3, 8, dtype=torch.bool), lens)
    torch.testing.assert_close(out, coarse.reshape(3, 16, BANDS))
    with pytest.raises(ValueError, match="coarse"):
        make(coarse=False).sample(batch["q"], lens, batch["speaker"], solver=SolverConfig(steps=0))


def test_patches_must_divide_tokens():
    with pytest.raises(ValueError, match="patch_frames"):
        make(patch=3)


@pytest.mark.parametrize("patch", [1, 2])
def test_prompt_is_seen_in_sampling(patch):
    net, batch = make(patch), given()
    lens = batch["mel_lens"] // 2
    a, b, c = (net.sample(batch["q"], lens, batch["speaker"], prompt,
                          solver=SolverConfig(temperature=0.0)) for prompt in (
        None, batch["mel"][:, :4], batch["mel"][:, :4] + 1))
    assert a.shape == b.shape == (3, 16, BANDS)
    assert not torch.allclose(a[:, 4:], b[:, 4:], atol=1e-3)
    assert not torch.allclose(b[:, 4:], c[:, 4:], atol=1e-3)


@pytest.mark.parametrize("patch", [1, 2])
def test_prompted_positions_are_told_and_do_not_count(patch, monkeypatch, no_chance):
    net, batch = make(patch, prompt_share=0.6, prompt_max=0.5), given()
    seen = {}

    def spy(estimator, config, target, condition, lens, weight):
        seen.update(target=target, condition=condition, lens=lens, weight=weight)
        return target.new_zeros(())
    monkeypatch.setattr(fm_module, "flow_loss", spy)
    coarse = net.losses(**batch)["coarse"]
    lens = batch["mel_lens"] // patch
    prompt_lens = (lens * 0.25).long()
    mask = length_mask(prompt_lens, 16 // patch)
    assert torch.equal(seen["weight"], ~mask) and torch.equal(seen["lens"], lens)
    prompt = seen["condition"].frames[..., 16 : 16 + patch * BANDS]
    torch.testing.assert_close(prompt, seen["target"] * mask.unsqueeze(-1))
    # The coarse mel has no loss either where the prompt is.
    mel = batch["mel"].clone()
    for b in range(3):
        mel[b, batch["mel_lens"][b]:] = 50
    again = net.losses(**{**batch, "mel": mel})["coarse"]
    torch.testing.assert_close(coarse, again)


def test_flow_is_given_the_coarse_mel_as_a_fact():
    net, batch = make(prompt_share=1.0, prompt_max=0.9), given()
    torch.manual_seed(0)
    net.losses(**batch)["fm"].backward()
    assert sorted(unreached(net)) == ["coarse.bias", "coarse.weight"]
    net.zero_grad()
    net.losses(**batch)["coarse"].backward()
    assert net.coarse.weight.grad.abs().sum() > 0
    assert all(n.startswith("estimator") for n in unreached(net))


def test_what_is_not_wanted_is_not_run():
    net, batch = make(), given()
    torch.manual_seed(0)
    both = net.losses(**batch)
    del net.estimator
    torch.manual_seed(0)
    alone = net.losses(**batch, wanted={"coarse"})
    assert set(alone) == {"coarse"} and torch.equal(alone["coarse"], both["coarse"])
    with pytest.raises(AttributeError, match="estimator"):
        net.losses(**batch, wanted={"fm"})


@pytest.mark.parametrize(("patch", "coarse"), KINDS)
def test_gradient_reaches_q_and_speaker(patch, coarse):
    net, batch = make(patch, coarse, prompt_share=1.0, prompt_max=0.9), given()
    q, speaker = batch["q"].requires_grad_(), batch["speaker"].requires_grad_()
    for loss in net.losses(**batch).values():
        dq, dv = torch.autograd.grad(loss, (q, speaker), retain_graph=True)
        assert dq.abs().sum() > 0 and dv.abs().sum() > 0
        for b, n in enumerate((batch["mel_lens"] // 2).tolist()):
            assert not dq[b, n:].any()
    sum(net.losses(**batch).values()).backward()
    assert not unreached(net)


def test_all_conditions_are_dropped_together():
    net, batch = make(flow=FlowConfig(cfg_dropout=1.0)), given()
    q = batch["q"].requires_grad_()
    net.losses(**batch)["fm"].backward()
    assert not q.grad.any()
    frames, speaker = torch.randn(3, 4, 5), torch.randn(3, 2)
    kept = Condition(frames, speaker).dropped(torch.tensor([True, False, True]))
    assert torch.equal(kept.frames[0], frames[0]) and torch.equal(kept.speaker[2], speaker[2])
    assert not kept.frames[1].any() and not kept.speaker[1].any()


def test_untrained_flow_predicts_zero_velocity():
    net, batch = make(awake=False), given()
    zeros = SolverConfig(temperature=0.0)
    assert not net.sample(batch["q"], batch["mel_lens"] // 2, batch["speaker"], solver=zeros).any()


def test_sampling_is_decided_by_its_generator():
    net, batch = make(), given()
    a, b, c = (net.sample(batch["q"], batch["mel_lens"] // 2, batch["speaker"],
                          generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_time_embedding_tells_times_apart():
    e = time_embedding(torch.linspace(0, 1, 101), 16)
    assert e.shape == (101, 16)
    distance = torch.cdist(e, e) + torch.eye(101) * 9
    assert distance.min() > 0.05


def test_encoder_depth_is_its_own():
    assert len(make().encoder.layers) == 1 and len(make().estimator.trunk.layers) == 2
