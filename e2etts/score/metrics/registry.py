"""The list of all metrics. It imports no metric: help and configurations read it too.

To add a metric, write metrics/NAME.py with ``score_NAME`` and ``summarise_NAME`` (see ``Metric``)
and add one line here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Metric:
    """A metric and the file of this folder that measures it, ``name``.py unless ``file`` is given.

    about: what it measures, unit and direction; the text of ``e2etts score --help`` and, beside the
    figures, of results.json. default: measured by default, and results.json has fields of its own
    for it.
    """

    name: str
    about: str
    file: str = ""
    default: bool = False

    def score(self, run: Any) -> None:
        """Measure all clips of a ``ScoreRun`` by ``score_NAME``. Raises Unavailable where the
        metric cannot run."""
        self._function("score")(run)

    def summarise(self, some: list[Any], config: Any) -> dict[str, Any] | None:
        """Figures of one set by ``summarise_NAME``, from its ``ClipScore``s; None where nothing
        was scored, and for default metrics."""
        return None if self.default else self._function("summarise")(some, config)

    def _function(self, verb: str) -> Callable[..., Any]:
        module = import_module(f"e2etts.score.metrics.{self.file or self.name}")
        return getattr(module, f"{verb}_{self.name}")


REGISTRY = {metric.name: metric for metric in (
    Metric("wer", "errors over words of the whole set; lower is better", default=True),
    Metric("sim", "cosine of speaker embeddings; higher is better", default=True),
    Metric("dnsmos", "DNSMOS P.835 overall, 1 to 5; higher is better", default=True),
    Metric("style", "share of clips classified as the requested style", default=True),
    Metric("utmos", "UTMOS, 1 to 5; higher is better"),
    Metric("mcd", "mel-cepstral distortion, dB; lower is better (16 kHz, WORLD, coefficients 1 to "
           "24, time-warped, with pauses)", "mcd_f0"),
    Metric("f0", "pitch against the recording where both are voiced (16 kHz, WORLD, 40 to 800 Hz, "
           "time-warped); errors: lower is better", "mcd_f0"),
    Metric("duration", "seconds over the recording's; 1 is as long", "duration_rtf"),
    Metric("emotion", "share of clips classified as the requested emotion", "emotion_accuracy"),
    Metric("tokens", "speech tokens of the clips"),
    Metric("rtf", "synthesis seconds over speech seconds; lower is faster", "duration_rtf"),
    Metric("seed_tts_eval_wer", "seed-tts-eval, percent: macro_wer, the mean over utterances, is "
           "the published figure; corpus_wer is errors over words", "seed_tts_eval"),
    Metric("seed_tts_eval_sim", "seed-tts-eval: asv, mean cosine to the prompt; higher is better",
           "seed_tts_eval"))}
DEFAULT_METRICS = tuple(name for name, metric in REGISTRY.items() if metric.default)
