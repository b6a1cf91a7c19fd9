import pytest
import torch
import torch.nn.functional as F
from tiny import LANGUAGES, TEXT, VOICE, Q, trunk, unreached, wake

from e2etts.nets.fsq import FSQ
from e2etts.nets.lm import (
    LM,
    CodeHead,
    LMConfig,
    advance_targets,
    lm_loss,
    lm_places,
    lm_targets,
)

FSQ_GRID = FSQ((4, 3))
V = FSQ_GRID.codebook_size
DIGITS = FSQ_GRID.to_digits(torch.arange(V))
ADVANCES = 5
READINGS = ["prefix", "stride", "aligned"]
CASES = [(reading, voice) for reading in READINGS for voice in (True, False)]


def make(reading="prefix", voice=True, stride=1.5):
    torch.manual_seed(0)
    config = LMConfig(trunk=trunk(), voice=voice, reader_layers=1,
                      reading="aligned" if reading == "aligned" else "prefix",
                      text_stride=stride if reading == "stride" else 0.0)
    return wake(LM(config, text_vocab=TEXT, languages=LANGUAGES, digits=DIGITS, q_dim=Q,
                   voice_dim=VOICE, advances=ADVANCES)).eval()


def ragged(rows=3):
    g = torch.Generator().manual_seed(3)
    return dict(place=torch.tensor([[-1, 0, 0, 2, 3, 9, 9, 9], [1, 3, 5, 9, 9, 9, 9, 9],
                                    [-1, -1, 0, 0, 0, 0, 0, 0]])[:rows],
                text=torch.randint(0, TEXT, (rows, 6), generator=g),
                text_lens=torch.tensor([4, 6, 1])[:rows],
                language=torch.tensor([0, 1, 1])[:rows],
                voice=torch.randn(rows, VOICE, generator=g),
                q=torch.randn(rows, 8, Q, generator=g), lens=torch.tensor([5, 3, 8])[:rows])


def said(out):
    """Everything that the LM says of a row."""
    return [x for x in out if x is not None]


def one(batch, b):
    """Row b alone, without padding."""
    n, t = int(batch["text_lens"][b]), int(batch["lens"][b])
    row = {k: v[b : b + 1] for k, v in batch.items()}
    return {**row, "text": row["text"][:, :n], "q": row["q"][:, :t], "place": row["place"][:, :t]}


@pytest.mark.parametrize(("reading", "voice"), CASES)
def test_padding_changes_nothing(reading, voice):
    lm, batch = make(reading, voice), ragged()
    out = lm(**batch)
    assert out.logits.shape == (3, 9, V + 1)
    assert (out.advance is not None) == lm.aligned
    for b, t in enumerate(batch["lens"].tolist()):
        alone = lm(**one(batch, b))
        assert alone.logits.shape == (1, t + 1, V + 1)
        for got, want in zip(said(out), said(alone), strict=True):
            torch.testing.assert_close(got[b, : t + 1], want[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reading", READINGS)
def test_logits_depend_on_the_past_only_and_on_every_condition(reading):
    lm, batch = make(reading), ragged()
    out = lm(**batch).logits
    later = batch["q"].clone()
    later[:, 4:] += 1
    changed = lm(**{**batch, "q": later}).logits
    torch.testing.assert_close(changed[:, :5], out[:, :5], atol=1e-6, rtol=0)
    assert not torch.allclose(changed[2, 5], out[2, 5], atol=1e-3)
    for name, value in (("text", (batch["text"] + 1) % TEXT), ("voice", batch["voice"] + 1),
                        ("language", 1 - batch["language"])):
        other = lm(**{**batch, name: value}).logits
        assert ((other[:, 0] - out[:, 0]).abs().amax(-1) > 1e-3).all(), name


def test_a_row_reads_at_its_own_place_and_knows_no_later_one():
    lm, batch = make("aligned"), ragged()
    out = lm(**batch).logits
    later = batch["place"].clone()
    later[0, 3:5] = torch.tensor([1, 2])
    changed = lm(**{**batch, "place": later}).logits
    torch.testing.assert_close(changed[:, :3], out[:, :3], atol=1e-6, rtol=0)
    assert not torch.allclose(changed[0, 3], out[0, 3], atol=1e-3)
    torch.testing.assert_close(changed[1:], out[1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("reading", "voice"), CASES)
@pytest.mark.parametrize("told", [0, 3])
def test_step_by_step_decoding_gives_the_teacher_forced_logits(reading, voice, told):
    """With and without a prompt of ``told`` tokens; rows of different texts, in lockstep."""
    lm, batch = make(reading, voice), ragged()
    batch["lens"] = torch.full((3,), 8)
    batch["place"] = torch.tensor([[-1, 0, 0, 0, 1, 2, 2, 3], [-1, -1, 1, 1, 3, 4, 5, 5],
                                   [-1, -1, 0, 0, 0, 0, 0, 0]])
    want = lm(**batch)
    given = [batch[k] for k in ("text", "text_lens", "language", "voice")]
    at = lm_places(batch["place"], batch["lens"], batch["text_lens"])
    with torch.no_grad():
        prompt = (batch["q"][:, :told], batch["place"][:, :told]) if told else (None, None)
        state = lm.start(*given, prompt[0], 8 - told, prompt[1])
        for t in range(told, 9):
            for got, row in zip(said(state.out), said(want), strict=True):
                torch.testing.assert_close(got, row[:, t], atol=1e-4, rtol=1e-4)
            if t < 8:
                returned = lm.step(state, batch["q"][:, t], at[:, t + 1])
                assert returned is state.out
    with pytest.raises(ValueError, match="full"):
        lm.step(state, batch["q"][:, 0], at[:, 0])


@pytest.mark.parametrize("reading", READINGS)
def test_selected_rows_go_on_as_they_were(reading):
    lm, batch = make(reading), ragged()
    batch["lens"] = torch.full((3,), 8)
    batch["place"] = torch.arange(-1, 7).expand(3, -1).minimum(batch["text_lens"][:, None] - 1)
    want = lm(**batch).logits
    at = lm_places(batch["place"], batch["lens"], batch["text_lens"])
    rows = torch.tensor([2, 0, 2])
    with torch.no_grad():
        state = lm.start(*[batch[k] for k in ("text", "text_lens", "language", "voice")], None, 4)
        lm.step(state, batch["q"][:, 0], at[:, 1])
        state.select(rows)
        torch.testing.assert_close(state.out.logits, want[rows, 1], atol=1e-4, rtol=1e-4)
        for t in range(1, 4):
            lm.step(state, batch["q"][rows, t], at[rows, t + 1])
            torch.testing.assert_close(state.out.logits, want[rows, t + 1], atol=1e-4, rtol=1e-4)


def test_text_stride_sets_text_beside_the_speech_it_belongs_to():
    lm = make("stride", stride=2.0)
    at = lm._positions(torch.tensor([4, 6]), 8)
    assert at.tolist() == [[0, 2, 4, 0, 1, 2, 3, 4], [0, 2, 4, 6, 8, 0, 1, 2]]
    assert make()._positions(torch.tensor([4, 6]), 3).tolist() == [[0, 1, 2]] * 2
    with pytest.raises(ValueError, match="text_stride"):
        LMConfig(reading="aligned", text_stride=1.0)


def test_code_head_adds_what_the_digits_share_to_what_a_code_has_alone():
    torch.manual_seed(0)
    head, x = CodeHead(6, DIGITS), torch.randn(2, 6)
    got, shared = head(x), head.digits(x)
    assert got.shape == (2, V + 1)
    for code, (a, b) in enumerate(DIGITS.tolist()):
        want = head.codes(x)[:, code] + shared[:, a] + shared[:, 4 + b]
        torch.testing.assert_close(got[:, code], want)
    torch.testing.assert_close(got[:, V], head.codes(x)[:, V])


def test_places_and_advances_by_hand():
    place = torch.tensor([[-1, 0, 2, 2], [1, 2, 9, 9], [0, 9, 9, 9], [-1, 5, 5, 6]])
    lens, text_lens = torch.tensor([4, 2, 1, 4]), torch.tensor([3, 4, 1, 7])
    assert lm_places(place, lens, text_lens).tolist() == [
        [-1, 0, 2, 2, 2], [-1, 2, 3, 3, 3], [-1, 0, 0, 0, 0], [-1, 5, 5, 6, 6]]
    assert advance_targets(place, lens, text_lens, 5).tolist() == [
        [1, 2, 0, -100, -100], [3, -100, -100, -100, -100], [-100] * 5,
        [-100, 0, 1, -100, -100]]  # six at once is more than there are classes for


def test_targets_by_hand():
    index = torch.tensor([[3, 1, 2], [4, 9, 9], [7, 8, 9]])
    got = lm_targets(index, torch.tensor([3, 1, 2]), end=12)
    assert got.tolist() == [[3, 1, 2, 12], [4, 12, -100, -100], [7, 8, 12, -100]]


def test_loss_is_that_of_items_computed_one_by_one():
    lm, batch = make("stride"), ragged()
    index = torch.randint(0, V, (3, 8))
    loss = lm_loss(lm(**batch).logits, lm_targets(index, batch["lens"], lm.end))
    total, count = 0.0, 0
    for b, t in enumerate(batch["lens"].tolist()):
        log_p = F.log_softmax(lm(**one(batch, b)).logits[0], dim=-1)
        wanted = [*index[b, :t].tolist(), V]
        total -= sum(log_p[i, k] for i, k in enumerate(wanted))
        count += t + 1
    torch.testing.assert_close(loss, total / count, atol=1e-5, rtol=1e-5)
    assert lm_loss(torch.randn(2, 3, V), torch.full((2, 3), -100)) == 0


@pytest.mark.parametrize("reading", READINGS)
def test_gradient_reaches_every_parameter_and_only_valid_inputs(reading):
    lm, batch = make(reading), ragged()
    q = batch["q"].clone().requires_grad_()
    voice = batch["voice"].clone().requires_grad_()
    targets = lm_targets(torch.randint(0, V, (3, 8)), batch["lens"], lm.end)
    out = lm(**{**batch, "q": q, "voice": voice})
    loss = lm_loss(out.logits, targets)
    if lm.aligned:
        moves = advance_targets(batch["place"], batch["lens"], batch["text_lens"], ADVANCES)
        loss = loss + lm_loss(out.advance, moves)
    loss.backward()
    assert not unreached(lm)
    for b, t in enumerate(batch["lens"].tolist()):
        assert (q.grad[b, :t].abs().sum(-1) > 0).all() and not q.grad[b, t:].any()
    assert voice.grad.abs().sum() > 0


def test_lm_without_voice_takes_none():
    lm, batch = make(voice=False), ragged()
    assert lm.voice is None
    out = lm(**{**batch, "voice": None}).logits
    torch.testing.assert_close(out, lm(**batch).logits)
