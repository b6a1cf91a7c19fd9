import pytest
import torch
import torch.nn.functional as F
from tiny import LANGUAGES, TEXT, VOICE, Q, trunk, unreached, wake

from e2etts.nets.lm import LM, LMConfig, lm_loss, lm_targets

V = 12
CASES = [(stride, voice) for stride in (0.0, 1.5) for voice in (True, False)]


def make(stride=0.0, voice=True):
    torch.manual_seed(0)
    return wake(LM(LMConfig(trunk=trunk(), voice=voice, text_stride=stride), text_vocab=TEXT,
                   languages=LANGUAGES, codebook_size=V, q_dim=Q, voice_dim=VOICE)).eval()


def ragged(rows=3):
    g = torch.Generator().manual_seed(3)
    return dict(text=torch.randint(0, TEXT, (rows, 6), generator=g),
                text_lens=torch.tensor([4, 6, 1])[:rows],
                language=torch.tensor([0, 1, 1])[:rows],
                voice=torch.randn(rows, VOICE, generator=g),
                q=torch.randn(rows, 8, Q, generator=g), lens=torch.tensor([5, 3, 8])[:rows])


def one(batch, b):
    """Row b alone, without padding."""
    n, t = int(batch["text_lens"][b]), int(batch["lens"][b])
    row = {k: v[b : b + 1] for k, v in batch.items()}
    return {**row, "text": row["text"][:, :n], "q": row["q"][:, :t]}


@pytest.mark.parametrize(("stride", "voice"), CASES)
def test_padding_changes_nothing(stride, voice):
    lm, batch = make(stride, voice), ragged()
    out = lm(**batch)
    assert out.shape == (3, 9, V + 1)
    for b, t in enumerate(batch["lens"].tolist()):
        alone = lm(**one(batch, b))
        assert alone.shape == (1, t + 1, V + 1)
        torch.testing.assert_close(out[b, : t + 1], alone[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stride", [0.0, 1.5])
def test_logits_depend_on_the_past_only_and_on_every_condition(stride):
    lm, batch = make(stride), ragged()
    out = lm(**batch)
    later = batch["q"].clone()
    later[:, 4:] += 1
    changed = lm(**{**batch, "q": later})
    torch.testing.assert_close(changed[:, :5], out[:, :5], atol=1e-6, rtol=0)
    assert not torch.allclose(changed[2, 5], out[2, 5], atol=1e-3)
    for name, value in (("text", (batch["text"] + 1) % TEXT), ("voice", batch["voice"] + 1),
                        ("language", 1 - batch["language"])):
        assert ((lm(**{**batch, name: value})[:, 0] - out[:, 0]).abs().amax(-1) > 1e-3).all(), name


@pytest.mark.parametrize(("stride", "voice"), CASES)
def test_step_by_step_decoding_gives_the_teacher_forced_logits(stride, voice):
    lm, batch = make(stride, voice), ragged()
    want = lm(**batch)
    given = [batch[k] for k in ("text", "text_lens", "language", "voice")]
    with torch.no_grad():
        state = lm.start(*given, None, 8)
        for t in range(9):
            for b in range(3):
                if t <= batch["lens"][b]:
                    torch.testing.assert_close(state.logits[b], want[b, t], atol=1e-4, rtol=1e-4)
            if t < 8:
                returned = lm.step(state, batch["q"][:, t])
                assert returned is state.logits


@pytest.mark.parametrize(("stride", "voice"), CASES)
def test_decoding_goes_on_from_a_prompt(stride, voice):
    lm, batch = make(stride, voice), ragged()
    batch["lens"] = torch.full((3,), 8)
    want = lm(**batch)
    given = [batch[k] for k in ("text", "text_lens", "language", "voice")]
    with torch.no_grad():
        state = lm.start(*given, batch["q"][:, :3], 5)
        for t in range(3, 9):
            torch.testing.assert_close(state.logits, want[:, t], atol=1e-4, rtol=1e-4)
            if t < 8:
                lm.step(state, batch["q"][:, t])
    with pytest.raises(ValueError, match="full"):
        lm.step(state, batch["q"][:, 0])


def test_selected_rows_go_on_as_they_were():
    lm, batch = make(1.5), ragged()
    batch["lens"] = torch.full((3,), 8)
    want = lm(**batch)
    rows = torch.tensor([2, 0, 2])
    with torch.no_grad():
        state = lm.start(*[batch[k] for k in ("text", "text_lens", "language", "voice")], None, 4)
        lm.step(state, batch["q"][:, 0])
        state.select(rows)
        torch.testing.assert_close(state.logits, want[rows, 1], atol=1e-4, rtol=1e-4)
        for t in range(1, 4):
            lm.step(state, batch["q"][rows, t])
            torch.testing.assert_close(state.logits, want[rows, t + 1], atol=1e-4, rtol=1e-4)


def test_text_stride_sets_text_beside_the_speech_it_belongs_to():
    lm = make(2.0)
    at = lm._positions(torch.tensor([4, 6]), 8)
    assert at.tolist() == [[0, 2, 4, 0, 1, 2, 3, 4], [0, 2, 4, 6, 8, 0, 1, 2]]
    assert make(0.0)._positions(torch.tensor([4, 6]), 3).tolist() == [[0, 1, 2]] * 2


def test_targets_by_hand():
    index = torch.tensor([[3, 1, 2], [4, 9, 9], [7, 8, 9]])
    got = lm_targets(index, torch.tensor([3, 1, 2]), end=12)
    assert got.tolist() == [[3, 1, 2, 12], [4, 12, -100, -100], [7, 8, 12, -100]]


def test_loss_is_that_of_items_computed_one_by_one():
    lm, batch = make(1.5), ragged()
    index = torch.randint(0, V, (3, 8))
    loss = lm_loss(lm(**batch), lm_targets(index, batch["lens"], lm.end))
    total, count = 0.0, 0
    for b, t in enumerate(batch["lens"].tolist()):
        log_p = F.log_softmax(lm(**one(batch, b))[0], dim=-1)
        wanted = [*index[b, :t].tolist(), V]
        total -= sum(log_p[i, k] for i, k in enumerate(wanted))
        count += t + 1
    torch.testing.assert_close(loss, total / count, atol=1e-5, rtol=1e-5)


def test_gradient_reaches_every_parameter_and_only_valid_inputs():
    lm, batch = make(), ragged()
    q = batch["q"].clone().requires_grad_()
    voice = batch["voice"].clone().requires_grad_()
    targets = lm_targets(torch.randint(0, V, (3, 8)), batch["lens"], lm.end)
    lm_loss(lm(**{**batch, "q": q, "voice": voice}), targets).backward()
    assert not unreached(lm)
    for b, t in enumerate(batch["lens"].tolist()):
        assert (q.grad[b, :t].abs().sum(-1) > 0).all() and not q.grad[b, t:].any()
    assert voice.grad.abs().sum() > 0


def test_lm_without_voice_takes_none():
    lm, batch = make(voice=False), ragged()
    assert lm.voice is None
    out = lm(**{**batch, "voice": None})
    torch.testing.assert_close(out, lm(**batch))
