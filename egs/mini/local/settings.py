"""Settings of the ``corpus_data`` section of the recipe's YAML file."""

from dataclasses import dataclass, field
from typing import Literal

SAMPLE_RATE_HZ = 16000
LANGUAGES = ("en", "es", "fr", "it", "ru")


@dataclass(frozen=True, kw_only=True)
class MiniData:
    """``hours``: of synthetic speech per voice of engines.py; ``VOICE+STYLE`` is speech of that
    voice with the style as its emotion label, of which ``style_test_utts`` for each voice and style
    become the set test_style and ``style_dev_utts`` go to dev. ``festvox_ru_hours``: of recordings
    of another Russian speaker, for training only (festvox.py). ``prompts_per_language``: how many
    recordings of each language are used at all (seeded choice), None for all. ``test_utts`` and
    ``dev_utts`` count utterances per language; ``test_seconds`` bounds their lengths. Recordings
    that are longer than ``longest_seconds`` or spoken at another rate than
    ``characters_per_second`` are left out; of silence at their edges ``edge_silence_seconds`` stay.
    The shares are of the sentences of a synthetic voice. ``held_out``: voices (synthetic ones, or
    ``asterisk-LANG``) that have no utterance in train and dev, and how many utterances of each, of
    ``held_out_seconds``, form the set test_zero_shot, whose texts occur in no other set.
    ``policy``: what is done with faulty utterances, see ``e2etts validate``.
    """

    seed: int = 1
    workers: int = 2
    languages: tuple[str, ...] = LANGUAGES
    prompts_per_language: int | None = None
    test_utts: dict[str, int] = field(default_factory=lambda: {
        "en": 60, "es": 20, "fr": 20, "it": 20, "ru": 20})
    dev_utts: int = 12
    test_least_words: int = 4
    test_seconds: tuple[float, float] = (1.2, 12.0)
    longest_seconds: float = 16.0
    characters_per_second: tuple[float, float] = (1.0, 23.5)
    edge_silence_seconds: float = 0.3
    hours: dict[str, float] = field(default_factory=lambda: {
        "flite-slt": 1.5, "flite-rms": 1.0, "flite-awb": 0.5, "flite-kal16": 0.3,
        "espeak-en": 0.0, "espeak-es": 0.4, "espeak-fr": 0.4, "espeak-it": 0.4,
        "espeak-ru": 0.4})
    festvox_ru_hours: float = 0.0
    style_test_utts: int = 12
    style_dev_utts: int = 2
    held_out: dict[str, int] = field(default_factory=dict)
    held_out_seconds: tuple[float, float] = (2.0, 6.0)
    prompt_share: float = 0.15
    recombined_share: float = 0.15
    policy: Literal["fail", "skip"] = "skip"
    release_url: str = "https://downloads.asterisk.org/pub/telephony/sounds/releases"
    download_timeout_seconds: float = 8.0
