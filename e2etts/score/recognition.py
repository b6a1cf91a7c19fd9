"""Word and character error rates of what a recogniser hears (metric wer)."""

from e2etts.score import wer
from e2etts.score.models import require
from e2etts.score.recognizers import REMEDY, find_recognizer
from e2etts.score.run import Run


def score(run: Run) -> None:
    """Fill ``heard`` and ``errors``. Raises Unavailable where nobody can listen."""
    require(wer.PACKAGES)
    some = run.with_text()
    meter = find_recognizer(run.config, lambda text: run.say(f"score: warning: {text}"))
    run.recognizer = meter.describe()
    run.say(f"score: recogniser {run.recognizer['name']} ({run.recognizer['source']})")
    knows = {lang: meter.understands(lang) for lang in {s.clip.lang for s in some}}
    deaf = sorted({s.clip.set for s in some if not knows[s.clip.lang]})
    if deaf:
        run.skip("wer", "this recogniser does not know their language", REMEDY, deaf)
    for s, heard in run.measure(meter, [s for s in some if knows[s.clip.lang]], "wer"):
        s.heard = heard
        s.errors = wer.count_errors(s.clip.text, heard, s.clip.lang)
        if s.errors is None:
            s.notes.append("its text has no words to compare")
