import pytest
import torch
from tiny import (
    BANDS,
    SPEAKER_DIM,
    TEXT,
    Q,
    make_batch,
    make_system,
    sizes,
    system_config,
    wake,
)

from e2etts.nets.fm import FM
from e2etts.nets.system import PARTS, System


def test_normalise_and_back():
    system = make_system()
    mel = torch.randn(2, 4, BANDS)
    torch.testing.assert_close(system.denormalise(system.normalise(mel)), mel)
    torch.testing.assert_close(system.normalise(torch.tensor([-4.0, -2.0])), torch.tensor([0., 1.]))


def test_parts_fit_each_other():
    system, batch = make_system().eval(), make_batch()
    tokens = system.encode(batch.mel, batch.mel_lens)
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    assert tokens.q.shape == (3, 12, Q) and speaker.shape == (3, SPEAKER_DIM)
    out = system.lm(system.lm_condition(batch, speaker), tokens.q, tokens.lens)
    assert out.logits.shape == (3, 13, system.tokenizer.codebook_size + 1)
    assert system.lm.end == system.tokenizer.codebook_size
    assert system.fm.sample(tokens.q, tokens.lens, speaker).shape == batch.mel.shape
    assert system.rm.blank == TEXT


def test_train_only_freezes_the_rest_and_its_statistics():
    system, batch = make_system(), make_batch()
    system.train_only(["lm", "fm"])
    system.train()
    for name in PARTS:
        part = getattr(system, name)
        learns = name in ("lm", "fm")
        assert all(p.requires_grad == learns for p in part.parameters())
        assert all(m.training == learns for m in part.modules())
    before = {k: v.clone() for k, v in system.tokenizer.named_buffers()}
    first = system.encode(batch.mel, batch.mel_lens)
    system.encode(batch.mel + 5, batch.mel_lens)
    for k, v in system.tokenizer.named_buffers():
        assert torch.equal(v, before[k])
    assert torch.equal(first.index, system.encode(batch.mel, batch.mel_lens).index)
    system.train_only(["tokenizer"])
    assert system.tokenizer.fsq.training and not system.lm.training
    system.encode(batch.mel + 5, batch.mel_lens)
    assert not torch.equal(system.tokenizer.fsq.mean, before["fsq.mean"])
    system.eval()
    assert not any(m.training for m in system.modules())


def test_unknown_part_is_refused():
    with pytest.raises(ValueError, match="vocoder.*parts: tokenizer"):
        make_system().train_only(["vocoder"])


def test_weights_come_from_the_seed_and_the_state_restores_them():
    a, b, c = make_system(0), make_system(0), make_system(1)
    same = [torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(),
                                              strict=True)]
    assert all(same)
    c.load_state_dict(wake(a).state_dict())
    batch = make_batch()
    a.eval(), c.eval()
    assert torch.equal(a.encode(batch.mel, batch.mel_lens).index,
                       c.encode(batch.mel, batch.mel_lens).index)


def test_a_stride_from_the_data():
    config = system_config(text_stride="auto")
    with pytest.raises(ValueError, match=r"model\.lm\.text_stride: .*prepare again"):
        System(config, sizes())
    system = System(config, sizes(text_stride=1.25))
    assert system.lm.config.text_stride == 1.25 and system.config.lm.text_stride == "auto"


@pytest.mark.parametrize("changes", [
    {"text_stride": 1.5}, {"text_input": "aligned"}, {"speaker_embedding": False},
    {"coarse": False}, {"patch_frames": 1}, {"decoder_layers": 0}, {"causal": True}])
def test_every_option_builds(changes):
    system, batch = make_system(**changes).eval(), make_batch()
    tokens = system.encode(batch.mel, batch.mel_lens)
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    assert system.fm.sample(tokens.q, tokens.lens, speaker).shape == batch.mel.shape
    assert isinstance(system.fm, FM)
