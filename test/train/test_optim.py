import math

import pytest
import torch
from torch import nn

from e2etts.nets.transformer import Transformer, TransformerConfig
from e2etts.train.config import TrainConfig
from e2etts.train.optim import Ema, learning_rate_ratio, make_optimizers


def test_warm_up_then_cosine_to_the_final_ratio():
    def ratio(step, progress):
        return learning_rate_ratio(step, progress, warmup_steps=10, final=0.1)

    assert [ratio(s, 0.0) for s in (0, 4, 9, 50)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert ratio(100, 0.5) == pytest.approx(0.55)
    assert ratio(100, 1.0) == ratio(100, 1.7) == pytest.approx(0.1)
    assert learning_rate_ratio(0, 0.0, warmup_steps=0, final=0.1) == 1.0


def test_progress_follows_the_nearest_limit():
    config = TrainConfig(max_steps=100, max_minutes=2)
    assert config.progress(50, 30) == 0.5
    assert config.progress(10, 90) == 0.75
    assert TrainConfig(max_minutes=1).progress(10**9, 30) == 0.5
    assert TrainConfig(max_minutes=1, max_audio_seconds=400).progress(9, 15, 300) == 0.75
    with pytest.raises(ValueError, match="max_audio_seconds"):
        TrainConfig()
    with pytest.raises(ValueError, match="lr must be more than 0"):
        TrainConfig(max_steps=1, lr=0.0)


def test_weight_decay_applies_to_matrices_except_embeddings():
    net = nn.ModuleDict({"table": nn.Embedding(5, 4), "linear": nn.Linear(4, 3),
                         "norm": nn.LayerNorm(3), "conv": nn.Conv1d(3, 3, 2)})
    [optimizer] = make_optimizers(net, list(net.parameters()),
                                  TrainConfig(max_steps=1, weight_decay=0.2))
    decays = {id(p) for g in optimizer.param_groups for p in g["params"] if g["weight_decay"]}
    assert decays == {id(net["linear"].weight), id(net["conv"].weight)}
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(net.parameters()))


def test_muon_optimises_only_the_matrices_inside_transformers():
    trunk = Transformer(TransformerConfig(dim=8, layers=1, heads=1, head_dim=8, hidden_dim=8),
                        causal=True)
    net = nn.ModuleDict({"trunk": trunk, "linear": nn.Linear(4, 3), "table": nn.Embedding(5, 4)})
    muon, adamw = make_optimizers(net, list(net.parameters()),
                                  TrainConfig(max_steps=1, optimizer="muon"))
    matrices = {id(p) for p in trunk.parameters() if p.ndim == 2}
    assert {id(p) for g in muon.param_groups for p in g["params"]} == matrices
    others = {id(p) for p in net.parameters()} - matrices
    assert {id(p) for g in adamw.param_groups for p in g["params"]} == others


def test_ema_follows_and_swaps_without_loss():
    parameter = nn.Parameter(torch.zeros(3))
    ema = Ema([parameter], 0.9)
    expected = 0.0
    for n in range(20):
        parameter.data.fill_(float(n))
        ema.update()
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    with ema.applied():
        assert parameter[0].item() == pytest.approx(expected, rel=1e-5)
    assert parameter.tolist() == [19.0] * 3
    with pytest.raises(KeyError), ema.applied():
        raise KeyError
    assert parameter.tolist() == [19.0] * 3
    other = Ema([nn.Parameter(torch.zeros(3))], 0.9)
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.average[0], ema.average[0]) and other.updates == 20


def test_ema_off_is_the_weights():
    parameter = nn.Parameter(torch.zeros(3))
    ema = Ema([parameter], 0.0)
    ema.update()
    with ema.applied():
        assert math.isclose(parameter.sum().item(), 0.0) and ema.average == []
