"""seed-tts-eval (arXiv 2406.02430), rule by rule as BytedanceSpeech/seed-tts-eval computes it.

Its word error rate is the mean over utterances. The rate of the whole set is reported
under its own name: the two differ, and papers have confused them.
"""

import string
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

import jiwer
import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.judges import paraformer, wavlm_sv, whisper
from e2etts.score.judges.locate import Unavailable, require
from e2etts.score.judges.recognizers import named_recognizer
from e2etts.score.meter import Meter, WavJob, unpack
from e2etts.score.score_run import ClipScore, ScoreRun, own_job

WER, SIM = "seed_tts_eval_wer", "seed_tts_eval_sim"
LANGUAGES = ("en", "zh")
PUBLISHED = {"en": whisper.LARGE_REPOSITORY, "zh": paraformer.MODEL}


@cache
def deleted() -> dict[int, None]:
    """Punctuation deleted from both texts, without a space in its place: all but the ASCII
    apostrophe."""
    from zhon.hanzi import punctuation

    return dict.fromkeys(map(ord, set(punctuation + string.punctuation) - {"'"}))


def normalise(text: str, lang: str) -> str:
    """Text for comparison. en: lowercase. zh: every character a word, Latin letters and digits too,
    and no lowercasing. Numbers stay as they are written (STE issue 12)."""
    text = text.translate(deleted()).replace("  ", " ")
    return text.lower() if lang == "en" else " ".join(text)


def simplified(text: str) -> str:
    """Traditional characters as simplified ones: applied to hypotheses, not to references."""
    import zhconv

    return zhconv.convert(text, "zh-cn")


def count(reference: str, hypothesis: str, lang: str) -> dict[str, Any]:
    """{"wer", "edits", "words"} of one utterance; its WER may be above 1.

    Raises ValueError for a reference that is empty after normalising: it has no error rate.
    """
    want = normalise(reference, lang)
    if not want.strip():
        raise ValueError("its reference text is empty after normalising")
    found = jiwer.process_words(want, normalise(hypothesis, lang))
    edits = found.substitutions + found.deletions + found.insertions
    return {"wer": found.wer, "edits": edits,
            "words": found.hits + found.substitutions + found.deletions}


def summarise_seed_tts_eval_wer(some: list[ClipScore], config: ScoreConfig
                                ) -> dict[str, Any] | None:
    """The set's figures in percent: ``macro_wer`` is the one that is published."""
    found = [s.values[WER] for s in some if WER in s.values]
    if not found:
        return None
    return {"macro_wer": round(100 * float(np.mean([f["wer"] for f in found])), 3),
            "corpus_wer": round(100 * sum(f["edits"] for f in found)
                                / sum(f["words"] for f in found), 3),
            "scored": len(found), "expected": len(some)}


def summarise_seed_tts_eval_sim(some: list[ClipScore], config: ScoreConfig
                                ) -> dict[str, Any] | None:
    """``asv`` is the mean cosine that is published, with its variance."""
    found = [s.values[SIM] for s in some if SIM in s.values]
    if not found:
        return None
    return {"asv": round(float(np.mean(found)), 3), "variance": float(np.var(found)),
            "scored": len(found), "expected": len(some)}


def recognizer(lang: str, config: ScoreConfig) -> tuple[Meter, list[str]]:
    """The protocol's recogniser of a language, or the configured one, and its deviations.

    Raises Unavailable where it cannot be fetched or does not know the language.
    """
    if config.recognizer:
        meter = named_recognizer(config.recognizer, config)
    else:
        meter = (whisper.find_hub if lang == "en" else paraformer.find)(config)
    if not meter.understands(lang):
        raise Unavailable(f"the configured recogniser does not know {lang}",
                          "leave out score.recognizer")
    kind = whisper.HubWhisperMeter if lang == "en" else paraformer.ParaformerMeter
    deviations = []
    if not (isinstance(meter, kind) and meter.is_published()):
        deviations.append(f"recogniser {meter.describe()['name']} in place of {PUBLISHED[lang]}")
    if meter.batch_clips > 1:
        deviations.append(f"{meter.batch_clips} clips in one batch (the same up to rounding)")
    return meter, deviations


def score_seed_tts_eval_wer(run: ScoreRun) -> None:
    """Fill the error counts of English and Mandarin clips; a language whose recogniser is
    unavailable is listed as not run."""
    require(["zhon", "zhconv"])
    texts = run.with_text()
    others = sorted({s.clip.set for s in texts if s.clip.lang not in LANGUAGES})
    if others:
        run.skip(WER, "the protocol knows en and zh only", "use the metric wer", others)
    for lang in LANGUAGES:
        some = [s for s in texts if s.clip.lang == lang]
        if some:
            try:
                _score_language(run, some, lang)
            except Unavailable as e:
                run.skip(WER, e.reason, e.remedy, sorted({s.clip.set for s in some}))


def _score_language(run: ScoreRun, some: list[ClipScore], lang: str) -> None:
    meter, deviations = recognizer(lang, run.config)
    rules = ", ".join(f"{p} {version(p)}" for p in ("zhon", "zhconv", "jiwer"))
    run.models[f"{WER} {lang}"] = {**meter.describe(), "rules": rules, "deviations": deviations}
    for deviation in deviations:
        run.say(f"score: {WER}: not the protocol: {deviation}")
    for s, hypothesis in run.measure(meter, some, WER):
        hypothesis = simplified(hypothesis) if lang == "zh" else hypothesis
        try:
            s.values[WER] = {**count(s.clip.text, hypothesis, lang), "hypothesis": hypothesis}
        except ValueError as e:
            s.failures[WER] = str(e)


def score_seed_tts_eval_sim(run: ScoreRun) -> None:
    """Fill the cosine of each clip and the prompt that it imitates, not a reconstruction of it."""
    some = run.with_prompt()
    meter = replace(wavlm_sv.find(run.config), name=SIM)
    run.models[SIM] = meter.describe()
    prompts = [WavJob(p, "") for p in sorted({s.clip.prompt for s in some})]
    values = run.of(meter, [*(own_job(s.clip) for s in some), *prompts])
    for s, vector in run.sort_out(values, some, SIM):
        prompt = values.get(WavJob(s.clip.prompt, ""), {"error": "missing"})
        if isinstance(prompt, dict):
            s.failures[SIM] = f"its prompt {s.clip.prompt}: {prompt['error']}"
        else:
            s.values[SIM] = float(unpack(vector) @ unpack(prompt))
