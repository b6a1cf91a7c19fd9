import math

import pytest
import torch

from e2etts.nets.flow import FlowConfig, SolverConfig, cosine_time, flow_loss, flow_sample

LENS = torch.tensor([5, 3])
SHAPE = (2, 5, 4)


def to_point(point):
    """The exact velocity field of a target that is one point: (point - x) / (1 - t)."""
    def estimator(x, time, condition, lens):
        return (point - x) / (1 - time[:, None, None]).clamp_min(1e-6)
    return estimator


def test_cosine_time_runs_from_0_to_1_slowly_at_first():
    t = cosine_time(torch.linspace(0, 1, 11))
    assert t[0] == 0 and abs(t[-1] - 1) < 1e-6 and (t.diff() > 0).all()
    assert (t.diff().diff() > 0).all() and abs(t[5] - (1 - math.cos(math.pi / 4))) < 1e-6


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_euler_with_the_exact_field_of_a_point_reaches_it(steps):
    point = torch.randn(SHAPE)
    out = flow_sample(to_point(point), SolverConfig(steps=steps, cfg_scale=0.0), SHAPE, None,
                      LENS)
    torch.testing.assert_close(out, point, atol=1e-4, rtol=0)


def test_euler_converges_to_the_solution_of_a_known_field():
    def growth(x, time, condition, lens):
        return x
    errors = []
    for steps in (16, 64, 256):
        config = SolverConfig(steps=steps, cfg_scale=0.0)
        end = flow_sample(growth, config, SHAPE, None, LENS,
                          torch.Generator().manual_seed(1))
        start = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
        errors.append((end - start * math.e).abs().max())
    assert errors[2] < errors[1] / 3 < errors[0] / 9 and errors[2] < 0.05


def test_estimator_is_asked_at_the_time_reached():
    times = []

    def still(x, time, condition, lens):
        times.append(time)
        assert lens is LENS
        return torch.zeros_like(x)
    flow_sample(still, SolverConfig(steps=4, cfg_scale=0.0), SHAPE, None, LENS)
    torch.testing.assert_close(torch.stack(times), cosine_time(torch.arange(4) / 4)[:, None]
                               .expand(4, 2))


def test_cfg_scale_goes_away_from_the_field_without_condition():
    seen = []

    def constant(x, time, condition, lens):
        seen.append(len(x))
        assert len(x) == len(time) == len(lens) == len(condition)
        return condition[:, None, None].expand_as(x)

    def run(w, condition):
        seen.clear()
        noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
        config = SolverConfig(steps=3, cfg_scale=w)
        return (flow_sample(constant, config, SHAPE, condition, LENS,
                            torch.Generator().manual_seed(0)) - noise).mean()
    known, free = torch.full((2,), 2.0), torch.full((2,), 0.5)
    assert abs(run(0.0, known) - 2.0) < 1e-5 and seen == [2] * 3
    assert abs(run(0.7, torch.cat([known, free])) - (1.7 * 2.0 - 0.7 * 0.5)) < 1e-5
    assert seen == [4] * 3


def test_sampling_is_decided_by_its_generator_and_temperature():
    def still(x, time, condition, lens):
        return torch.zeros_like(x)
    a, b, c = (flow_sample(still, SolverConfig(temperature=t, cfg_scale=0.0), SHAPE, None, LENS,
                           torch.Generator().manual_seed(s)) for t, s in ((1, 5), (0.5, 5), (1, 6)))
    torch.testing.assert_close(a * 0.5, b)
    assert not torch.equal(a, c)


def test_sampling_may_start_on_the_way_to_a_coarse_prediction():
    """Times begin at ``start``; where the velocity is 0, what comes out is the starting point."""
    coarse, times = torch.randn(SHAPE), []

    def still(x, time, condition, lens):
        times.append(float(time[0]))
        return torch.zeros_like(x)

    def run(coarse, sigma=0.0, **changes):
        times.clear()
        return flow_sample(still, SolverConfig(cfg_scale=0, steps=4, **changes), SHAPE, None, LENS,
                           torch.Generator().manual_seed(0), coarse=coarse, sigma=sigma)
    noise = run(None)
    torch.testing.assert_close(run(coarse, start=0.6), 0.4 * noise + 0.6 * coarse)
    assert times[0] == pytest.approx(0.6) and times == sorted(times) and times[-1] < 1
    torch.testing.assert_close(run(coarse, start=0.6, sigma=0.5), 0.7 * noise + 0.6 * coarse)
    torch.testing.assert_close(run(coarse), noise)
    torch.testing.assert_close(run(None, start=0.6), noise)
    with pytest.raises(ValueError, match="start"):
        SolverConfig(start=1.0)


@pytest.mark.parametrize("loss", ["mse", "l1"])
@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_loss_is_least_at_the_true_velocity(loss, sigma):
    """The velocity that the path has at (x, t) is known when the target is: the loss is then 0."""
    target = torch.randn(SHAPE)
    config = FlowConfig(loss=loss, sigma=sigma)

    def true(x, time, condition, lens):
        t = time[:, None, None]
        noise = (x - t * target) / (1 - (1 - sigma) * t)
        return target - (1 - sigma) * noise
    assert flow_loss(true, config, target, None, LENS) < 1e-3

    for off in (-0.2, 0.2):
        got = flow_loss(lambda *a, off=off: true(*a) + off, config, target, None, LENS)
        assert abs(got - (0.04 if loss == "mse" else 0.2)) < 1e-2


def test_best_answer_is_the_conditional_mean_velocity():
    """Two targets, +1 and -1: descending the loss finds E[v | x, t], not either of them."""
    torch.manual_seed(0)
    target = torch.ones(4000, 1, 1)
    target[2000:] = -1
    lens = torch.ones(4000, dtype=torch.long)

    def mean_field(x, time, condition, lens):
        t = time[:, None, None]
        s = (1 - t).clamp_min(1e-3)
        up = torch.sigmoid(2 * t * x / s**2)  # posterior of the target +1
        return ((2 * up - 1) - x) / s

    def loss(estimator):
        torch.manual_seed(1)
        return float(flow_loss(estimator, FlowConfig(), target, None, lens))
    best = loss(mean_field)
    assert best < loss(lambda *a: mean_field(*a) + 0.2)
    assert best < loss(lambda *a: mean_field(*a) * 0.8)
    assert best < loss(lambda x, t, c, n: (1 - x) / (1 - t[:, None, None]).clamp_min(1e-3))


def test_padding_and_weight_choose_what_counts():
    target = torch.randn(SHAPE)

    def huge_in_padding(x, time, condition, lens):
        out = torch.zeros_like(x)
        out[1, 3:] = 1e6
        return out
    torch.manual_seed(0)
    a = flow_loss(huge_in_padding, FlowConfig(), target, None, LENS)
    torch.manual_seed(0)
    garbage = target.clone()
    garbage[1, 3:] = 1e6
    b = flow_loss(lambda x, *_: torch.zeros_like(x), FlowConfig(), garbage, None, LENS)
    torch.testing.assert_close(a, b)
    weight = torch.zeros(2, 5, dtype=torch.bool)
    assert flow_loss(huge_in_padding, FlowConfig(), target, None, LENS, weight) == 0
    weight[1] = True
    torch.manual_seed(0)
    noise = torch.randn_like(target)
    torch.manual_seed(0)
    got = flow_loss(lambda x, *_: torch.zeros_like(x), FlowConfig(), target, None, LENS, weight)
    torch.testing.assert_close(got, (target - noise)[1, :3].square().mean())
