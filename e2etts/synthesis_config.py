"""Settings of synthesis."""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from e2etts.nets.flow import SolverConfig
from e2etts.nets.system import System

# For systems whose checkpoint does not say what was observed: of phonemes, at 25 tokens a second.
UNKNOWN_RATIOS = (1.0, 2.0)


class Limits(NamedTuple):
    """``SamplingConfig``'s limits in numbers."""

    min_ratio: float
    max_ratio: float
    max_tokens_per_text_token: int


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Repetition-aware nucleus sampling (arXiv 2406.05370, section 3.3; top_p and top_k as
    in the code of CosyVoice 2, arXiv 2412.10117). A pick that makes up ``repeat_share`` of the last
    ``repeat_window`` tokens is drawn again from the whole distribution (repeat_window 0: never).
    min_ratio, max_ratio: bounds of the length, in speech tokens per text token.
    max_tokens_per_text_token: of an LM with aligned text_input, after which it advances to the next
    text token, and from the last to the end. Their defaults follow the training data, see
    ``limits``."""

    temperature: float = 1.0
    top_p: float = 0.8
    top_k: int = 25
    repeat_window: int = 10
    repeat_share: float = 0.3
    min_ratio: float | None = None
    max_ratio: float | None = None
    max_tokens_per_text_token: int | None = None

    def limits(self, system: System) -> Limits:
        """The limits that are set, and for the others: half of the least and twice the greatest
        speech tokens per text token of the training data (``Sizes.tokens_per_text_token``), at
        least as many as the RM's CTC needs to read the text; one text token lasts for at most
        twice as long as a whole text may at that rate, at least 20 speech tokens (a pause of 0.8 s
        at 25 per second). Checkpoints without these figures have the limits of UNKNOWN_RATIOS:
        0.5, 4 and 20."""
        low, high = system.sizes.tokens_per_text_token or UNKNOWN_RATIOS
        derived = Limits(max(0.5 * low, 1 / system.config.rm.labels_per_token), 2.0 * high,
                         max(20, round(4.0 * high)))
        return Limits(*(number if (own := getattr(self, name)) is None else own
                        for name, number in derived._asdict().items()))

    def with_limits(self, system: System) -> "SamplingConfig":
        """The same with all limits as numbers."""
        return replace(self, **self.limits(system)._asdict())


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """candidates: samples of the LM for each text, of which the one with the lowest CTC loss by the
    RM is spoken. lm_speakers: language -> speaker whose embedding the LM is conditioned on
    (default: the target speaker; one with more training text has fewer reading errors, and the FM
    renders in the target's voice in any case). prompt_clips: clips of each test set that are also
    synthesised from a voice prompt. vocoded_clips: recordings of each test set whose mels also go
    through the vocoder alone, evenly spread over the set. solver: of the FM. references: recordings
    of a speaker whose mean embedding is used. batch: texts at a time."""

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    solver: SolverConfig = field(default_factory=SolverConfig)
    candidates: int = 4
    lm_speakers: dict[str, str] = field(default_factory=dict)
    batch: int = 16
    prompt_clips: int = 4
    vocoded_clips: int = 20
    prompt_max_seconds: float = 4.0
    references: int = 20
    precision: Literal["bf16", "no"] = "bf16"
