"""Each rule of seed-tts-eval on a worked example, and all of them on random pairs."""

import json
import random
import re
import string
import sys

import jiwer
import numpy as np
import pytest
import soundfile
from made_up import ToyMeter, tone
from published_models import write_wavlm_sv

from e2etts.report.results_markdown import results_markdown
from e2etts.score.config import ScoreConfig
from e2etts.score.judges import paraformer, wavlm_sv
from e2etts.score.judges.locate import Unavailable
from e2etts.score.judges.whisper import resample_fft
from e2etts.score.metrics import seed_tts_eval as ste
from e2etts.score.results import score_clips
from e2etts.score.utterance_lists import read_folder

zhon = pytest.importorskip("zhon.hanzi")


@pytest.mark.parametrize(("text", "lang", "expected"), [
    ("It's well-known, isn't it?", "en", "it's wellknown isn't it"),  # deleted, not spaced
    ("Don\u2019t", "en", "dont"),  # a curly apostrophe is no ASCII one
    ("a\u3000b", "en", "ab"),  # nor an ideographic space a space
    ("ONE Two", "en", "one two"),
    ("a  b", "en", "a b"), ("a    b", "en", "a  b"),  # two spaces become one, once
    ("a - b", "en", "a b"),  # what punctuation leaves behind
    ("in 1999", "en", "in 1999"),  # numbers stay
    ("caf\u00e9 na\u00efve", "en", "caf\u00e9 na\u00efve"),
    ("\u4f60\u597d\uff0c\u4e16\u754c\u3002", "zh", "\u4f60 \u597d \u4e16 \u754c"),
    ("\u7528AI\u5199 3 \u884c", "zh", "\u7528 A I \u5199   3   \u884c"),  # no lowercasing
    ("\u300a\u4e66\u300b\u2014\u2014\u201c\u597d\u201d\u2026", "zh", "\u4e66 \u597d"),
    ("$5 + 5% = @x_y", "en", "5 5 xy"),
])
def test_normalisation(text, lang, expected):
    assert ste.normalise(text, lang) == expected


@pytest.mark.parametrize(("reference", "hypothesis", "lang", "edits", "words"), [
    ("The cat sat.", "the cat sat", "en", 0, 3),
    ("the cat sat", "the hat sat down", "en", 2, 3),
    ("well-known", "well known", "en", 2, 1),  # wellknown: one replaced, one added; above 1
    ("nineteen", "19", "en", 1, 1),
    ("a   b", "a b", "en", 0, 2),  # jiwer takes further spaces as one
    ("\u4f60\u597d AI", "\u4f60\u597dAI", "zh", 0, 4),  # spaces are no characters
    ("\u4f60\u597dAI", "\u4f60\u597dai", "zh", 2, 4),
    ("yes", "", "en", 1, 1), ("yes", "...", "en", 1, 1),
])
def test_errors_of_an_utterance(reference, hypothesis, lang, edits, words):
    assert ste.count(reference, hypothesis, lang) == {"wer": edits / words, "edits": edits,
                                                 "words": words}


def test_an_empty_reference_has_no_error_rate():
    with pytest.raises(ValueError, match="empty"):
        ste.count("...", "la", "en")


def test_only_hypotheses_are_simplified():
    pytest.importorskip("zhconv")
    assert ste.simplified("\u6f22\u8a9e") == "\u6c49\u8bed"
    assert ste.count("\u6f22\u8a9e", ste.simplified("\u6f22\u8a9e"), "zh")["edits"] == 2


def random_text(rng: random.Random, lang: str) -> str:
    letters = "abcdefgABCDE\u00e9 '0123" if lang == "en" else "\u4f60\u597d\u4e16\u754c\u6211AIx 7"
    marks = string.punctuation + zhon.punctuation
    pieces = [rng.choice(letters) if rng.random() < 0.8 else rng.choice(marks)
              for _ in range(rng.randint(1, 30))]
    return "".join(p + " " * rng.choice((0, 0, 0, 0, 1, 1, 2, 3)) for p in pieces)


def edit_distance(a: list[str], b: list[str]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def test_ten_thousand_random_pairs_agree_with_the_rules_written_out_and_with_jiwer():
    """The rules once more, by other means: a character class, and our own edit distance."""
    rng = random.Random(0)
    mark = re.compile("[" + re.escape((string.punctuation + zhon.punctuation).replace("'", ""))
                      + "]")
    compared = 0
    while compared < 10_000:
        lang = "en" if compared % 2 else "zh"
        reference = random_text(rng, lang)
        hypothesis = reference if rng.random() < 0.1 else random_text(rng, lang)
        rules = [re.sub("  ", " ", mark.sub("", t)) for t in (reference, hypothesis)]
        rules = [t.lower() if lang == "en" else re.sub("(?<=.)(?=.)", " ", t) for t in rules]
        if not rules[0].strip():
            continue
        found = ste.count(reference, hypothesis, lang)
        assert found["wer"] == jiwer.wer(rules[0], rules[1])
        words = [[w for w in t.split(" ") if w] for t in rules]
        assert found["words"] == len(words[0]) and found["edits"] == edit_distance(*words)
        compared += 1


META = """\
a|What I said.|prompt-wavs/p.wav|The cat sat on the mat.
b|What I said.|prompt-wavs/p.wav|Yes.|wavs/b.wav
c|What I said.|prompt-wavs/p.wav|No.
"""


@pytest.fixture
def made(tmp_path):
    """A list of three, of which two were spoken."""
    (tmp_path / "en/prompt-wavs").mkdir(parents=True)
    (tmp_path / "en/meta.lst").write_text(META)
    soundfile.write(tmp_path / "en/prompt-wavs/p.wav", tone(0.6, 200), 16000)
    (tmp_path / "out").mkdir()
    for utt in "ab":
        soundfile.write(tmp_path / f"out/{utt}.wav", tone(0.5, 300, ord(utt)), 24000)
    return tmp_path


def scored(made, config, lang="en"):
    printed = []
    clips = read_folder(made / "out", name="mine", lang=lang, listed=made / "en/meta.lst")
    (made / "scores").mkdir(exist_ok=True)
    return score_clips(clips, made / "scores", config, 0, "e2etts score", printed.append), printed


def test_the_published_figure_is_the_mean_over_utterances(made, monkeypatch):
    toy = ToyMeter("the cat sat on the hat")  # 1 of 6 wrong; for "Yes." 6 edits of 1 word
    monkeypatch.setattr(ste, "recognizer", lambda lang, config: (toy, []))
    found, _ = scored(made, ScoreConfig(metrics=(ste.WER,), workers=1))
    figures = found["details"]["mine"]["meta"]["metrics"][ste.WER]
    assert figures == {"macro_wer": round(100 * (1 / 6 + 6) / 2, 3), "corpus_wer": 100.0,
                       "scored": 2, "expected": 3}
    assert [p["clip"] for p in found["problems"]] == ["mine/meta/c"]
    page = results_markdown(found)
    assert "| meta | mine | 308.333 | 100.000 | 2 of 3 |" in page
    assert "macro_wer | corpus_wer" in page and "NOT THE PROTOCOL" not in page


def test_another_recogniser_is_named_as_a_deviation(made):
    pytest.importorskip("pocketsphinx")
    config = ScoreConfig(metrics=(ste.WER,), workers=1, recognizer="pocketsphinx")
    found, printed = scored(made, config)
    assert found["models"][f"{ste.WER} en"]["deviations"][0].endswith("openai/whisper-large-v3")
    assert any("not the protocol" in s for s in printed)
    assert "NOT THE PROTOCOL: recogniser PocketSphinx" in results_markdown(found)


def test_another_whisper_and_batches_are_deviations(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    sizes = {"d_model": 1280, "num_mel_bins": 128, "decoder_layers": 4}  # of the turbo model
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    models = {"whisper-large-v3": str(tmp_path)}
    batched, deviations = ste.recognizer("en", ScoreConfig(models=models, batch_clips=8))
    assert deviations[0].endswith("in place of openai/whisper-large-v3")
    assert deviations[1:] == ["8 clips in one batch (the same up to rounding)"]
    (tmp_path / "config.json").write_text(json.dumps({**sizes, "decoder_layers": 32}))
    alone, deviations = ste.recognizer("en", ScoreConfig(models=models))
    # Batches have another cache key.
    assert deviations == [] and alone.key("en") != batched.key("en")
    # Named, it is the protocol's still; one that was named for the other language is not taken.
    named = ScoreConfig(recognizer=f"transformers:{tmp_path}")
    assert ste.recognizer("en", named)[1] == []
    assert ste.recognizer("zh", named)[1][0].endswith("in place of paraformer-zh")
    monkeypatch.setattr(paraformer, "require", lambda packages, remedy: None)
    monkeypatch.setattr(paraformer, "offline", lambda: False)
    with pytest.raises(Unavailable, match="does not know en"):
        ste.recognizer("en", ScoreConfig(recognizer="funasr"))


def test_recognisers_that_are_not_here_are_listed_and_never_zero(made, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(made / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(made / "hub"))
    config = ScoreConfig(metrics=(ste.WER, ste.SIM), workers=1)
    found, printed = scored(made, config)
    assert [(r["metric"], "whisper-large-v3" in r["reason"]) for r in found["not_run"]] == \
        [(ste.WER, True), (ste.SIM, False)]
    assert "HF_HUB_OFFLINE" in found["not_run"][0]["reason"]
    assert "UniSpeech" in found["not_run"][1]["remedy"]
    assert "metrics" not in found["details"]["mine"]["meta"] and len(printed) == 3
    monkeypatch.setitem(sys.modules, "funasr", None)
    assert "funasr" in scored(made, config, "zh")[0]["not_run"][0]["reason"]


def test_similarity_is_that_of_clip_and_prompt(made, monkeypatch):
    import torch
    from torchaudio.functional import resample

    net, load, opened = write_wavlm_sv(made / "sv.pth"), wavlm_sv.load, []
    monkeypatch.setattr(wavlm_sv, "load", lambda path: opened.append(path) or load(path))
    found, _ = scored(made, ScoreConfig(metrics=(ste.SIM,), workers=1,
                                        models={"wavlm-sv": str(made / "sv.pth")}))
    assert opened == [made / "sv.pth"]  # once, for clips and prompts

    def voice(path):
        wav, rate = soundfile.read(path, dtype="float32")
        with torch.no_grad():
            return net(resample(torch.from_numpy(wav)[None], rate, 16000))

    prompt = voice(made / "en/prompt-wavs/p.wav")
    cosines = [torch.cosine_similarity(voice(made / f"out/{u}.wav"), prompt).item() for u in "ab"]
    figures = found["details"]["mine"]["meta"]["metrics"][ste.SIM]
    assert figures["asv"] == pytest.approx(np.mean(cosines), abs=6e-4)
    assert figures["variance"] == pytest.approx(np.var(cosines), abs=1e-5)
    assert (figures["scored"], figures["expected"]) == (2, 3)


def test_a_missing_prompt_leaves_similarity_unscored(made):
    write_wavlm_sv(made / "sv.pth")
    (made / "en/prompt-wavs/p.wav").unlink()
    found, _ = scored(made, ScoreConfig(metrics=(ste.SIM,), workers=1,
                                        models={"wavlm-sv": str(made / "sv.pth")}))
    assert [f["metric"] for f in found["failures"]] == [ste.SIM] * 2
    assert "p.wav" in found["failures"][0]["problem"]
    assert "metrics" not in found["details"]["mine"]["meta"]


def test_other_languages_are_not_of_the_protocol(made):
    found, _ = scored(made, ScoreConfig(metrics=(ste.WER,), workers=1), lang="fr")
    assert found["not_run"][0]["sets"] == ["meta"] and "en and zh" in found["not_run"][0]["reason"]


def test_english_is_resampled_by_one_fourier_transform(tmp_path):
    import scipy.signal

    wav = tone(0.5, 300)
    soundfile.write(tmp_path / "a.wav", wav, 24000, subtype="DOUBLE")
    found = resample_fft(tmp_path / "a.wav")
    assert len(found) == int(len(wav) * 16000 / 24000)
    np.testing.assert_array_equal(found, scipy.signal.resample(wav.astype(np.float64), len(found)))
    soundfile.write(tmp_path / "b.wav", wav, 16000, subtype="DOUBLE")
    np.testing.assert_array_equal(resample_fft(tmp_path / "b.wav"), wav.astype(np.float64))
