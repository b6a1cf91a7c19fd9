"""A trained system that gets more text tokens, languages and speakers."""

from dataclasses import replace

import pytest
import torch
from tiny import make_batch, make_system, sizes, system_config, wake

from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.nets.system import StyleConfig, System
from e2etts.tasks.extend_vocab import check_extends, extend_vocab
from e2etts.train.checkpoint import restore

OLD = Vocab(speakers=["b", "c"], languages=["fr"], emotions=[], mel_mean=1.0, mel_std=2.0,
            text_size=5, space=[])


def systems(style=None, **changes):
    """A system with weights everywhere, and the same one with a larger vocabulary."""
    old = wake(make_system(style=style), std=0.1).eval()
    torch.manual_seed(5)
    new = System(system_config(style=style),
                 sizes(text_vocab=13, languages=4, speakers=5, **changes)).eval()
    restore(new, extend_vocab(old.state_dict(), new.state_dict()), "extended")
    return old, new


@torch.no_grad()
def outputs(system, batch):
    tokens = system.encode(batch.mel, batch.mel_lens)
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    out = system.lm(system.lm_condition(batch, speaker), tokens.q, tokens.lens)
    h = system.rm.encode(tokens.q, tokens.lens)
    torch.manual_seed(3)
    losses = system.rm.losses(tokens.q, tokens.lens, batch.text, batch.text_lens, batch.speaker,
                              batch.emotion)
    mel = system.fm.sample(tokens.q, tokens.lens, speaker,
                           generator=torch.Generator().manual_seed(0))
    return {"q": tokens.q, "lm": out.logits, "mel": mel, "ctc": system.rm.ctc_logits(h),
            "speaker": system.rm.classify("speaker", h, tokens.lens), "losses": losses}


def test_what_the_system_makes_of_old_input_stays():
    old, new = (outputs(s, make_batch()) for s in systems())
    for name in ("q", "lm", "mel"):
        assert new[name].equal(old[name]), name
    # The blank is still the last. Products of another width round differently.
    torch.testing.assert_close(new["ctc"][..., [*range(9), -1]], old["ctc"], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(new["speaker"][..., :3], old["speaker"], atol=1e-6, rtol=1e-6)
    for name, loss in old["losses"].items():
        torch.testing.assert_close(new["losses"][name], loss, atol=1e-3, rtol=1e-3)


def test_new_rows_learn():
    _, new = systems()
    batch = replace(make_batch(), text=torch.full((3, 6), 12), speaker=torch.full((3,), 4),
                    language=torch.full((3,), 3))
    tokens = new.encode(batch.mel, batch.mel_lens)
    speaker = new.speaker_embedding(batch.reference_mel, batch.reference_lens)
    losses = new.rm.losses(tokens.q, tokens.lens, batch.text, batch.text_lens, batch.speaker,
                           batch.emotion)
    out = new.lm(new.lm_condition(batch, speaker), tokens.q, tokens.lens)
    (sum(losses.values()) + out.logits.square().mean()).backward()
    for table, row in ((new.lm.text.weight, 12), (new.lm.language.weight, 3),
                       (new.rm.ctc.weight, 12), (new.rm.heads["speaker"].weight, 4),
                       (new.rm.text.weight, 12), (new.rm.head.weight, 12)):
        assert bool(table.grad[row].abs().sum() > 0)
    assert new.lm.language.weight[3].equal(new.lm.language.weight[:2].mean(0))


def test_a_speaker_loss_without_classes_takes_new_speakers_as_it_is():
    old = make_system(speaker_loss="embedding")
    new = System(system_config(speaker_loss="embedding"), sizes(speakers=5))
    extended = extend_vocab(old.state_dict(), new.state_dict())
    restore(new, extended, "extended")
    assert all(new.state_dict()[k].equal(v) for k, v in old.state_dict().items())
    first = System(system_config(speaker_loss="embedding"), sizes(speakers=1))
    restore(new, extend_vocab(first.state_dict(), new.state_dict()), "extended")


def test_new_styles_come_behind_the_old_ones():
    old, new = systems(style=StyleConfig(), emotions=4)
    for part in ("lm", "fm"):
        was, now = (getattr(s, part).style.weight for s in (old, new))
        assert len(was) == 3 and len(now) == 5 and now[:3].equal(was)


def test_a_first_emotion_head_is_new_and_other_shapes_are_refused():
    torch.manual_seed(0)
    old = System(system_config(), sizes(emotions=0))
    new = make_system()
    fresh = new.state_dict()
    restore(new, extend_vocab(old.state_dict(), fresh), "extended")
    wider = {**old.state_dict(), "lm.speech_start": torch.zeros(3)}
    with pytest.raises(UserError, match=r"lm.speech_start has shape \(3,\)"):
        restore(new, extend_vocab(wider, fresh), "extended")


@pytest.mark.parametrize(("changes", "message"), [
    ({"speakers": ["a", "b", "c"]}, "its speakers are not the first ones"),
    ({"languages": []}, "its languages"), ({"mel_mean": 0.0}, "other mel scalars"),
    ({"text_size": 4}, "fewer text tokens")])
def test_vocabularies_that_do_not_begin_with_the_old_ones_are_refused(changes, message):
    check_extends(replace(OLD, speakers=["b", "c", "a"], text_size=9), OLD, "dump")
    with pytest.raises(UserError, match=f"dump: .*{message}"):
        check_extends(replace(OLD, **changes), OLD, "dump")
