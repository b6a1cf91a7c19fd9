"""Word and character error rates of a recogniser's hypotheses (metric wer)."""

from e2etts.score.error_rates import PACKAGES, count_errors
from e2etts.score.judges.locate import require
from e2etts.score.judges.recognizers import REMEDY, find_recognizer
from e2etts.score.score_run import ScoreRun


def score_wer(run: ScoreRun) -> None:
    """Fill ``hypothesis`` and ``errors``. Raises Unavailable where there is no recogniser."""
    require(PACKAGES)
    some = run.with_text()
    meter = find_recognizer(run.config, lambda text: run.say(f"score: warning: {text}"))
    run.recognizer = meter.describe()
    run.say(f"score: recogniser {run.recognizer['name']} ({run.recognizer['source']})")
    knows = {lang: meter.understands(lang) for lang in {s.clip.lang for s in some}}
    unknown = sorted({s.clip.set for s in some if not knows[s.clip.lang]})
    if unknown:
        run.skip("wer", "this recogniser does not know their language", REMEDY, unknown)
    for s, hypothesis in run.measure(meter, [s for s in some if knows[s.clip.lang]], "wer"):
        s.hypothesis = hypothesis
        s.errors = count_errors(s.clip.text, hypothesis, s.clip.lang)
        if s.errors is None:
            s.notes.append("its text has no words to compare")
