import pytest
import torch
import torch.nn.functional as F
from tiny import LANGUAGES, SPEAKER_DIM, TEXT, Q, trunk, unreached, wake

from e2etts.nets.fsq import FSQ
from e2etts.nets.lm import (
    LM,
    CodeHead,
    LMCondition,
    LMConfig,
    advance_targets,
    lm_loss,
    lm_targets,
    row_positions,
)

FSQ_GRID = FSQ((4, 3))
V = FSQ_GRID.codebook_size
DIGITS = FSQ_GRID.to_digits(torch.arange(V))
ADVANCES = 5
TEXT_INPUTS = ["prefix", "stride", "aligned"]
CASES = [(text_input, speaker) for text_input in TEXT_INPUTS for speaker in (True, False)]


def make(text_input="prefix", speaker=True, stride=1.5):
    torch.manual_seed(0)
    config = LMConfig(trunk=trunk(), speaker_embedding=speaker, text_encoder_layers=1,
                      text_input="aligned" if text_input == "aligned" else "prefix",
                      text_stride=stride if text_input == "stride" else 0.0)
    return wake(LM(config, text_vocab=TEXT, languages=LANGUAGES, codes=V, digits=DIGITS,
                   q_dim=Q, speaker_dim=SPEAKER_DIM, advances=ADVANCES)).eval()


def ragged(rows=3):
    g = torch.Generator().manual_seed(3)
    return dict(position=torch.tensor([[-1, 0, 0, 2, 3, 9, 9, 9], [1, 3, 5, 9, 9, 9, 9, 9],
                                       [-1, -1, 0, 0, 0, 0, 0, 0]])[:rows],
                text=torch.randint(0, TEXT, (rows, 6), generator=g),
                text_lens=torch.tensor([4, 6, 1])[:rows],
                language=torch.tensor([0, 1, 1])[:rows],
                speaker=torch.randn(rows, SPEAKER_DIM, generator=g),
                q=torch.randn(rows, 8, Q, generator=g), lens=torch.tensor([5, 3, 8])[:rows])


def condition(batch):
    return LMCondition(*(batch[k] for k in ("text", "text_lens", "language", "speaker")))


def predict(lm, batch):
    return lm(condition(batch), batch["q"], batch["lens"], batch["position"])


def predictions(out):
    """All outputs of the LM that there are."""
    return [x for x in out if x is not None]


def one(batch, b):
    """Row b alone, without padding."""
    n, t = int(batch["text_lens"][b]), int(batch["lens"][b])
    row = {k: v[b : b + 1] for k, v in batch.items()}
    return {**row, "text": row["text"][:, :n], "q": row["q"][:, :t],
            "position": row["position"][:, :t]}


@pytest.mark.parametrize(("text_input", "speaker"), CASES)
def test_padding_changes_nothing(text_input, speaker):
    lm, batch = make(text_input, speaker), ragged()
    out = predict(lm, batch)
    assert out.logits.shape == (3, 9, V + 1)
    assert (out.advance is not None) == lm.aligned
    for b, t in enumerate(batch["lens"].tolist()):
        alone = predict(lm, one(batch, b))
        assert alone.logits.shape == (1, t + 1, V + 1)
        for got, want in zip(predictions(out), predictions(alone), strict=True):
            torch.testing.assert_close(got[b, : t + 1], want[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("text_input", TEXT_INPUTS)
def test_logits_depend_on_the_past_only_and_on_every_condition(text_input):
    lm, batch = make(text_input), ragged()
    out = predict(lm, batch).logits
    later = batch["q"].clone()
    later[:, 4:] += 1
    changed = predict(lm, {**batch, "q": later}).logits
    torch.testing.assert_close(changed[:, :5], out[:, :5], atol=1e-6, rtol=0)
    assert not torch.allclose(changed[2, 5], out[2, 5], atol=1e-3)
    for name, value in (("text", (batch["text"] + 1) % TEXT), ("speaker", batch["speaker"] + 1),
                        ("language", 1 - batch["language"])):
        other = predict(lm, {**batch, name: value}).logits
        assert ((other[:, 0] - out[:, 0]).abs().amax(-1) > 1e-3).all(), name


def test_a_row_sees_its_own_text_position_and_no_later_one():
    lm, batch = make("aligned"), ragged()
    out = predict(lm, batch).logits
    later = batch["position"].clone()
    later[0, 3:5] = torch.tensor([1, 2])
    changed = predict(lm, {**batch, "position": later}).logits
    torch.testing.assert_close(changed[:, :3], out[:, :3], atol=1e-6, rtol=0)
    assert not torch.allclose(changed[0, 3], out[0, 3], atol=1e-3)
    torch.testing.assert_close(changed[1:], out[1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("text_input", "speaker"), CASES)
@pytest.mark.parametrize("prompted", [0, 3])
def test_step_by_step_decoding_gives_the_teacher_forced_logits(text_input, speaker, prompted):
    """With and without a prompt of ``prompted`` tokens; rows of different texts, in lockstep."""
    lm, batch = make(text_input, speaker), ragged()
    batch["lens"] = torch.full((3,), 8)
    batch["position"] = torch.tensor([[-1, 0, 0, 0, 1, 2, 2, 3], [-1, -1, 1, 1, 3, 4, 5, 5],
                                   [-1, -1, 0, 0, 0, 0, 0, 0]])
    want = predict(lm, batch)
    at = row_positions(batch["position"], batch["lens"], batch["text_lens"])
    with torch.no_grad():
        prompt = (batch["q"][:, :prompted], batch["position"][:, :prompted])
        prompt = prompt if prompted else ()
        state = lm.start(condition(batch), 8 - prompted, *prompt)
        for t in range(prompted, 9):
            for got, row in zip(predictions(state.out), predictions(want), strict=True):
                torch.testing.assert_close(got, row[:, t], atol=1e-4, rtol=1e-4)
            if t < 8:
                returned = lm.step(state, batch["q"][:, t], at[:, t + 1])
                assert returned is state.out
    with pytest.raises(ValueError, match="full"):
        lm.step(state, batch["q"][:, 0], at[:, 0])


@pytest.mark.parametrize("text_input", TEXT_INPUTS)
def test_selected_rows_go_on_as_they_were(text_input):
    lm, batch = make(text_input), ragged()
    batch["lens"] = torch.full((3,), 8)
    batch["position"] = torch.arange(-1, 7).expand(3, -1).minimum(batch["text_lens"][:, None] - 1)
    want = predict(lm, batch).logits
    at = row_positions(batch["position"], batch["lens"], batch["text_lens"])
    rows = torch.tensor([2, 0, 2])
    with torch.no_grad():
        state = lm.start(condition(batch), 4)
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
        LMConfig(text_input="aligned", text_stride=1.0)


def test_code_head_adds_what_the_digits_share_to_what_a_code_has_alone():
    torch.manual_seed(0)
    head, x = CodeHead(6, V, DIGITS), torch.randn(2, 6)
    got, shared = head(x), head.digits(x)
    assert got.shape == (2, V + 1)
    for code, (a, b) in enumerate(DIGITS.tolist()):
        want = head.codes(x)[:, code] + shared[:, a] + shared[:, 4 + b]
        torch.testing.assert_close(got[:, code], want)
    torch.testing.assert_close(got[:, V], head.codes(x)[:, V])


@pytest.mark.parametrize("digit_head", [True, False])
def test_head_shares_digits_or_does_not(digit_head):
    """Where digits are shared, learning a code moves the codes that differ from it in one digit;
    where they are not, it moves its own logit alone. Either is decoded as it was learned."""
    torch.manual_seed(0)
    config = LMConfig(trunk=trunk(), digit_head=digit_head)
    lm = LM(config, text_vocab=TEXT, languages=LANGUAGES, codes=V, digits=DIGITS, q_dim=Q,
            speaker_dim=SPEAKER_DIM, advances=ADVANCES)
    assert any(n.startswith("head.digits") for n, _ in lm.named_parameters()) == digit_head
    x, code = torch.randn(1, lm.config.trunk.dim), 5
    before = lm.head(x)
    assert before.shape == (1, V + 1)
    torch.testing.assert_close(before, x @ lm.head.joined().T)
    before[0, code].backward()
    with torch.no_grad():
        for p in lm.head.parameters():
            p += p.grad
    moved = (lm.head(x) - before).detach()[0] > 1e-6
    near = (DIGITS[code] == DIGITS).any(-1)
    want = near if digit_head else torch.arange(V) == code
    assert moved[:V].tolist() == want.tolist() and not moved[V]
    assert 1 < int(near.sum()) < V


def test_text_positions_and_advances_by_hand():
    position = torch.tensor([[-1, 0, 2, 2], [1, 2, 9, 9], [0, 9, 9, 9], [-1, 5, 5, 6]])
    lens, text_lens = torch.tensor([4, 2, 1, 4]), torch.tensor([3, 4, 1, 7])
    assert row_positions(position, lens, text_lens).tolist() == [
        [-1, 0, 2, 2, 2], [-1, 2, 3, 3, 3], [-1, 0, 0, 0, 0], [-1, 5, 5, 6, 6]]
    assert advance_targets(position, lens, text_lens, 5).tolist() == [
        [1, 2, 0, -100, -100], [3, -100, -100, -100, -100], [-100] * 5,
        [-100, 0, 1, -100, -100]]  # six at once is more than there are classes for


def test_targets_by_hand():
    index = torch.tensor([[3, 1, 2], [4, 9, 9], [7, 8, 9]])
    got = lm_targets(index, torch.tensor([3, 1, 2]), end=12)
    assert got.tolist() == [[3, 1, 2, 12], [4, 12, -100, -100], [7, 8, 12, -100]]


def test_loss_is_that_of_items_computed_one_by_one():
    lm, batch = make("stride"), ragged()
    index = torch.randint(0, V, (3, 8))
    loss = lm_loss(predict(lm, batch).logits, lm_targets(index, batch["lens"], lm.end))
    total, count = 0.0, 0
    for b, t in enumerate(batch["lens"].tolist()):
        log_p = F.log_softmax(predict(lm, one(batch, b)).logits[0], dim=-1)
        wanted = [*index[b, :t].tolist(), V]
        total -= sum(log_p[i, k] for i, k in enumerate(wanted))
        count += t + 1
    torch.testing.assert_close(loss, total / count, atol=1e-5, rtol=1e-5)
    assert lm_loss(torch.randn(2, 3, V), torch.full((2, 3), -100)) == 0


@pytest.mark.parametrize("text_input", TEXT_INPUTS)
def test_gradient_reaches_every_parameter_and_only_valid_inputs(text_input):
    lm, batch = make(text_input), ragged()
    q = batch["q"].clone().requires_grad_()
    speaker = batch["speaker"].clone().requires_grad_()
    targets = lm_targets(torch.randint(0, V, (3, 8)), batch["lens"], lm.end)
    out = predict(lm, {**batch, "q": q, "speaker": speaker})
    loss = lm_loss(out.logits, targets)
    if lm.aligned:
        moves = advance_targets(batch["position"], batch["lens"], batch["text_lens"], ADVANCES)
        loss = loss + lm_loss(out.advance, moves)
    loss.backward()
    assert not unreached(lm)
    for b, t in enumerate(batch["lens"].tolist()):
        assert (q.grad[b, :t].abs().sum(-1) > 0).all() and not q.grad[b, t:].any()
    assert speaker.grad.abs().sum() > 0


def test_lm_without_speaker_embedding_takes_none():
    lm, batch = make(speaker=False), ragged()
    assert lm.speaker is None
    out = predict(lm, {**batch, "speaker": None}).logits
    torch.testing.assert_close(out, predict(lm, batch).logits)
