from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import BANDS, SPEAKER_DIM, sizes, system_config, wake

from e2etts.audio import AudioConfig
from e2etts.config import to_dict
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.infer.pipeline import Synthesizer
from e2etts.nets.flow import SolverConfig
from e2etts.nets.system import StyleConfig, System
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.synthesis_config import SamplingConfig, SynthesisConfig
from e2etts.text import TextConfig, TextTokenizer
from e2etts.train.checkpoint import save_checkpoint

AUDIO = AudioConfig(mel_bands=BANDS)
TEXT = TextConfig(phonemes=False)
CONFIG = SynthesisConfig(candidates=2, solver=SolverConfig(steps=2, temperature=0.0),
                         sampling=SamplingConfig(max_ratio=1.5))


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.train(["hello there", "one two three"], TEXT)


@pytest.fixture(scope="module", params=["prefix", "aligned"])
def parts(request, tokenizer):
    torch.manual_seed(0)
    vocab = Vocab(speakers=["a", "b", "c"], languages=["en", "fr"], emotions=["x", "y"],
                  mel_mean=-4.0, mel_std=2.0, text_size=len(tokenizer),
                  space=[tokenizer.encode("a")[0]])
    system = wake(System(system_config(text_input=request.param),
                         sizes(text_vocab=len(tokenizer))), std=0.1)
    vocoder = Vocoder(VocoderConfig(dim=16, layers=1), sample_rate_hz=16000, hop_samples=320,
                      mel_bands=BANDS)
    return system, vocoder, vocab


@pytest.fixture
def synthesizer(parts, tokenizer):
    system, vocoder, vocab = parts
    return Synthesizer(system, vocoder, AUDIO, TEXT, tokenizer, vocab, CONFIG)


def noise(seconds, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(int(16000 * seconds)) * 0.1).astype(np.float32)


def test_text_becomes_speech_of_the_tokens_length(synthesizer):
    texts = [synthesizer.text_ids(t, "en") for t in ("Hello there!", "One 2.")]
    voices = [torch.nn.functional.normalize(torch.randn(SPEAKER_DIM), dim=0) for _ in range(2)]
    speech = synthesizer.speak(texts, ["en", "fr"], voices, seed=3)
    for s, t in zip(speech, texts, strict=True):
        assert s.wav.dtype == np.float32 and np.isfinite(s.wav).all() and abs(s.wav).max() <= 1
        assert len(s.wav) == len(s.tokens) * 640
        assert len(t) * 0.5 - 1 <= len(s.tokens) <= max(4, len(t) * 1.5)
    again = synthesizer.speak(texts, ["en", "fr"], voices, seed=3)
    assert all(np.array_equal(a.wav, b.wav) for a, b in zip(speech, again, strict=True))
    other = synthesizer.speak(texts, ["en", "fr"], voices, seed=4)
    assert not all(torch.equal(a.tokens, b.tokens) for a, b in zip(speech, other, strict=True))


def test_the_lm_may_be_conditioned_on_another_speaker_than_the_fm(synthesizer, monkeypatch):
    texts = [synthesizer.text_ids("hello there", "en")]
    target, other = torch.nn.functional.normalize(torch.randn(2, SPEAKER_DIM), dim=-1)
    spoken = {}
    render = synthesizer.render

    def watched(tokens, voices, **more):
        spoken["voices"] = voices
        return render(tokens, voices, **more)
    monkeypatch.setattr(synthesizer, "render", watched)
    [ours] = synthesizer.speak(texts, ["en"], [target], lm_speakers=[other])
    assert torch.equal(spoken["voices"][0], target)
    [theirs] = synthesizer.speak(texts, ["en"], [other])
    [own] = synthesizer.speak(texts, ["en"], [target])
    assert torch.equal(ours.tokens, theirs.tokens) and not torch.equal(ours.tokens, own.tokens)
    assert not np.array_equal(ours.wav, theirs.wav)


def test_a_style_changes_what_the_lm_says_and_what_the_fm_makes_of_it(parts, tokenizer):
    system, vocoder, vocab = parts
    with pytest.raises(UserError, match="'x': this system was trained without styles"):
        Synthesizer(system, vocoder, AUDIO, TEXT, tokenizer, vocab, CONFIG).style_ids(["x"])
    system = wake(System(system_config(style=StyleConfig()), sizes(text_vocab=len(tokenizer))))
    speaker = Synthesizer(system, vocoder, AUDIO, TEXT, tokenizer, vocab, CONFIG)
    texts, voices = [speaker.text_ids("hello there", "en")] * 3, [torch.ones(SPEAKER_DIM)] * 3
    torch.testing.assert_close(speaker.style_ids([None, "x", "y"]), torch.tensor([0, 1, 2]))
    plain = speaker.speak(texts, ["en"] * 3, voices)
    asked = speaker.speak(texts, ["en"] * 3, voices, styles=[None, "y", None])
    same = [torch.equal(a.tokens, b.tokens) for a, b in zip(plain, asked, strict=True)]
    assert same[0] and not same[1]
    tokens = [plain[0].tokens] * 2
    made = speaker.render(tokens, voices[:2], styles=["x", "y"])
    assert np.abs(made[0] - made[1]).max() > 1e-3
    with pytest.raises(UserError, match="no style 'loud'; styles: x, y"):
        speaker.speak(texts, ["en"] * 3, voices, styles=["loud", None, None])


def test_the_candidate_that_reads_best_is_chosen(synthesizer, monkeypatch):
    texts = [synthesizer.text_ids(t, "en") for t in ("hello", "there")]
    voices = [torch.ones(SPEAKER_DIM)] * 2
    seen = {}

    def score(tokens, told):
        seen.update(tokens=tokens, told=told)
        return torch.tensor([2.0, 1.0, torch.inf, 3.0])
    monkeypatch.setattr(synthesizer, "score", score)
    speech = synthesizer.speak(texts, ["en", "en"], voices)
    assert seen["told"] == [texts[0], texts[0], texts[1], texts[1]]
    for s, k, want in zip(speech, (1, 3), (1.0, 3.0), strict=True):
        assert torch.equal(s.tokens, seen["tokens"][k]) and s.score == want


def test_score_is_that_of_each_row_alone_and_inf_where_impossible(synthesizer):
    tokens = [torch.tensor([1, 2, 3, 4, 5, 6]), torch.tensor([7, 8, 9])]
    texts = [[5, 6], [4, 5, 6, 7, 8]]
    together = synthesizer.score(tokens, texts)
    alone = torch.cat([synthesizer.score([t], [x]) for t, x in zip(tokens, texts, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert together.isfinite().all() and (together > 0).all()
    assert synthesizer.score([tokens[1]], [[4] * 5]).isinf()


def test_copies_have_the_length_of_their_recordings(synthesizer):
    wavs = [noise(0.5), noise(0.31, 1)]
    voices = [synthesizer.speaker_embedding([w]) for w in wavs]
    speech = synthesizer.resynthesize(synthesizer.encode(wavs), voices)
    assert [len(s.tokens) for s in speech] == [13, 8]  # 12.5 and 7.75 tokens, padded to whole ones
    assert [len(s.wav) for s in speech] == [13 * 640, 8 * 640]
    assert all(s.score is None for s in speech)
    alone = synthesizer.resynthesize(synthesizer.encode(wavs[1:]), voices[1:])[0]
    assert torch.equal(alone.tokens, speech[1].tokens)
    assert np.abs(alone.wav - speech[1].wav).max() < 1e-3


def test_voice_is_the_mean_of_a_speakers_recordings(synthesizer):
    wavs = [noise(0.4), noise(0.9, 1)]
    both = synthesizer.speaker_embedding(wavs)
    each = torch.stack([synthesizer.speaker_embedding([w]) for w in wavs])
    torch.testing.assert_close(both, torch.nn.functional.normalize(each.mean(0), dim=0), atol=1e-5,
                               rtol=1e-5)
    assert abs(both.norm() - 1) < 1e-5


def test_prompt_is_told_seen_and_cut_off(synthesizer, monkeypatch):
    wav = noise(0.4)
    prompt = synthesizer.prompt(wav, "Hello.", "en")
    assert len(prompt.tokens) == 10 and prompt.mel.shape == (20, BANDS)
    texts = [synthesizer.text_ids(t, "en") for t in ("there", "one two")]
    asked = {}
    sample = synthesizer.system.fm.sample

    def spy(q, lens, voice, known, **more):
        asked.update(q=q, lens=lens, known=known)
        return sample(q, lens, voice, known, **more)
    monkeypatch.setattr(synthesizer.system.fm, "sample", spy)
    speaker = synthesizer.speaker_embedding([wav])
    speech = synthesizer.speak(texts, ["en", "en"], [speaker] * 2, prompt=prompt)
    for b, s in enumerate(speech):
        assert len(s.wav) == len(s.tokens) * 640 and len(s.tokens) <= max(4, 1.5 * len(texts[b]))
        row = torch.cat([prompt.tokens, s.tokens])
        q = synthesizer.system.tokenizer.embed(row)
        torch.testing.assert_close(asked["q"][b, : len(row)], q)
        assert asked["lens"][b] == len(row)
        torch.testing.assert_close(asked["known"][b], (prompt.mel + 4) / 2)


def test_untrained_language_and_empty_text_are_refused(synthesizer):
    with pytest.raises(UserError, match="language 'de' was not trained; languages: en, fr"):
        synthesizer.speak([[4]], ["de"], [torch.ones(SPEAKER_DIM)])
    with pytest.raises(UserError, match="no words"):
        synthesizer.text_ids(" ... ", "en")
    with pytest.raises(UserError, match="no audio"):
        synthesizer.speaker_embedding([np.zeros(0, np.float32)])


def test_an_lm_that_ends_at_once_still_gives_a_wav(synthesizer, monkeypatch):
    config = replace(CONFIG, sampling=SamplingConfig(min_ratio=0.0))
    monkeypatch.setattr(synthesizer, "config", config)
    monkeypatch.setattr("e2etts.infer.pipeline.sample_tokens",
                        lambda *a, **k: [torch.zeros(0, dtype=torch.long)] * 2)
    speech = synthesizer.speak([[4, 5, 6, 7]], ["en"], [torch.ones(SPEAKER_DIM)])[0]
    assert len(speech.wav) == 640 and speech.score == float("inf")


def save(tmp_path, parts, tokenizer, **changes):
    system, vocoder, vocab = parts
    shared = {"audio": to_dict(AUDIO)}
    model = {**shared, "text": to_dict(TEXT), "model": to_dict(system.config),
             "sizes": to_dict(system.sizes)}
    save_checkpoint(tmp_path / "joint", system.state_dict(), {"config": model})
    spoken = {**shared, "vocoder": to_dict(vocoder.config), **changes}
    save_checkpoint(tmp_path / "vocoder", vocoder.state_dict(), {"config": spoken})
    tokenizer.save(tmp_path / "dump/text.model")
    vocab.save(tmp_path / "dump")
    return tmp_path / "joint", tmp_path / "vocoder", tmp_path / "dump"


def test_loaded_from_checkpoints_it_says_the_same(tmp_path, parts, tokenizer, synthesizer):
    loaded = Synthesizer.load(*save(tmp_path, parts, tokenizer), CONFIG)
    assert not loaded.system.training and not loaded.vocoder.training
    ids = synthesizer.text_ids("hello", "en")
    a, b = (s.speak([ids], ["en"], [torch.ones(SPEAKER_DIM)]) for s in (synthesizer, loaded))
    assert np.array_equal(a[0].wav, b[0].wav)


def test_what_does_not_fit_together_is_refused(tmp_path, parts, tokenizer):
    other = to_dict(replace(AUDIO, mel_low_hz=20.0))
    with pytest.raises(UserError, match="other audio settings"):
        Synthesizer.load(*save(tmp_path / "a", parts, tokenizer, audio=other), CONFIG)
    paths = save(tmp_path / "b", parts, tokenizer)
    replace(parts[2], text_size=3).save(paths[2])
    with pytest.raises(UserError, match="3 text tokens"):
        Synthesizer.load(*paths, CONFIG)
    with pytest.raises(UserError, match="vocoder: holds no system, but audio, vocoder"):
        Synthesizer.load(paths[1], paths[1], paths[2], CONFIG)
    with pytest.raises(UserError, match="no such checkpoint"):
        Synthesizer.load(tmp_path / "none", paths[1], paths[2], CONFIG)
