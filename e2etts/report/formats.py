"""How numbers, times and systems are shown in tables and on the page."""

from collections.abc import Callable
from typing import Any

from e2etts.score.clips import EMBEDDING_SYSTEM, PROMPT_SYSTEM

NAMES = {"recording": "recording", "vocoded": "vocoded recording", "copy": "copy synthesis",
         "tts": "text-to-speech", PROMPT_SYSTEM: "voice prompt",
         EMBEDDING_SYSTEM: "speaker embedding"}
ABSENT = "–"


def percent(value: float | None) -> str:
    return ABSENT if value is None else f"{100 * value:.1f}"


def fixed(digits: int) -> Callable[[float | None], str]:
    """Shows a number with so many decimals."""
    return lambda value: ABSENT if value is None else f"{value:.{digits}f}"


def figure(value: Any) -> str:
    """A number or an interval, as shown in a table."""
    if value is None:
        return ABSENT
    if isinstance(value, list):
        return f"[{', '.join(map(figure, value))}]"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def clock(seconds: float | None) -> str:
    """"12 min 05 s", or "45.2 s" below a minute."""
    if seconds is None:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
