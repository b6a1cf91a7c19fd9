"""Settings of synthesis."""

from dataclasses import dataclass, field
from typing import Literal

from e2etts.nets.flow import FlowConfig


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Repetition-aware nucleus sampling (arXiv 2406.05370, section 3.3; values of arXiv
    2412.10117). A pick that makes up ``repeat_share`` of the last ``repeat_window`` tokens is
    drawn again from the whole distribution (repeat_window 0: never). Lengths are bounded to
    tokens a text token. longest_stay: tokens after which an LM that reads aligned goes on to the
    next text token, and from the last to the end."""

    temperature: float = 1.0
    top_p: float = 0.8
    top_k: int = 25
    repeat_window: int = 10
    repeat_share: float = 0.3
    min_ratio: float = 0.5
    max_ratio: float = 4.0
    longest_stay: int = 20


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """candidates: samples of the LM for each text, of which the one that the RM's recogniser
    finds most like the text is spoken. readers: language -> speaker in whose manner the LM reads
    its texts (default: the target speaker; one with more training text reads more surely, and
    the FM gives the target's voice all the same). prompt_clips: clips of each test set that are
    also spoken by voice prompt. flow: how the FM is solved. references: recordings of a speaker
    that make up its mean voice."""

    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    candidates: int = 4
    readers: dict[str, str] = field(default_factory=dict)
    batch: int = 16
    prompt_clips: int = 4
    prompt_max_seconds: float = 4.0
    references: int = 20
    precision: Literal["bf16", "no"] = "bf16"
