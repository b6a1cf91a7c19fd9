"""Voices of synthetic speech: which program speaks each, and how it is asked.

A new voice is one line of VOICES; a new program also an ``Engine`` with its arguments.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from fetch import run_fetch_deb

from e2etts.errors import UserError
from e2etts.programs import DEB_ROOT, Program, find_program

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Command:
    """A call of a program: its arguments with the program itself, input, additional environment."""

    arguments: list[str | bytes]
    stdin: str = ""
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """``packages`` of Debian hold the ``program``, in archive area ``component``. ``styles``: style
    to arguments. ``command`` makes a call from program, voice, style, text and the wav to write."""

    program: str
    command: Callable[[Program, "Voice", str, str, Path], Command]
    packages: tuple[str, ...]
    component: str = ""
    styles: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"neutral": ()})


@dataclass(frozen=True, kw_only=True)
class Voice:
    """``name``: what the program calls the voice. ``data``: its file or folder, relative to the
    root of the installation, and ``packages`` that hold it, if not those of the engine."""

    engine: Engine
    lang: str
    name: str
    data: str = ""
    packages: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def styles(self) -> list[str]:
        return [style for style in self.engine.styles if style not in self.lacks]


def _flite(program: Program, voice: Voice, style: str, text: str, target: Path) -> Command:
    return Command(arguments=[program.path, "-voice", voice.name, *voice.engine.styles[style],
                              "-t", text, "-o", str(target)])


def _espeak(program: Program, voice: Voice, style: str, text: str, target: Path) -> Command:
    if style == "flat":
        text = f'<prosody range="0%">{escape(text)}</prosody>'
    variant = "+whisper" if style == "whisper" else ""
    return Command(arguments=[program.path, "-v", voice.name + variant,
                              *voice.engine.styles[style], "-w", str(target), "--", text])


def _pico(program: Program, voice: Voice, style: str, text: str, target: Path) -> Command:
    """pico2wave itself reads its voices from /usr only."""
    voices = program.root / PICO_VOICES
    return Command(arguments=[sys.executable, "-I", "-S", str(HERE / "pico.py"), str(voices),
                              voice.name, str(target), text])


def _festival(program: Program, voice: Voice, style: str, text: str, target: Path) -> Command:
    """Raises UnicodeEncodeError for characters that the Italian voices cannot read."""
    quoted = [str(s).replace("\\", "\\\\").replace('"', '\\"') for s in (text, target)]
    scheme = ('(begin (voice_{}) (set! utt (Utterance Text "{}")) (utt.synth utt) '
              '(utt.save.wave utt "{}" (quote riff)))').format(voice.name, *quoted)
    return Command(arguments=[
        program.path, "--datadir", str(program.root / "usr/share/festival"),
        "--libdir", str(program.root / "usr/lib/festival"),
        "-b", scheme.encode("latin-1" if voice.lang == "it" else "utf-8")])


def _rhvoice(program: Program, voice: Voice, style: str, text: str, target: Path) -> Command:
    return Command(arguments=[program.path, "-p", voice.name, "-o", str(target)],
                   stdin=text, env={"RHVOICE_DATA_PATH": str(program.root / "usr/share/RHVoice")})


# Rates and pitches of styles were chosen to be clearly audible: 1.4 times faster or slower, three
# to five semitones up or down.
FLITE = Engine(program="flite", command=_flite, packages=("flite",), styles={
    "neutral": (), "fast": ("--setf", "duration_stretch=0.7"),
    "slow": ("--setf", "duration_stretch=1.4"), "high": ("--setf", "f0_shift=1.3"),
    "low": ("--setf", "f0_shift=0.75"), "flat": ("--setf", "int_f0_target_stddev=1")})
ESPEAK = Engine(program="espeak-ng", command=_espeak, packages=("espeak-ng",), styles={
    "neutral": (), "fast": ("-s", "240"), "slow": ("-s", "120"), "high": ("-p", "85"),
    "low": ("-p", "15"), "flat": ("-m",), "whisper": ()})
PICO = Engine(program="pico2wave", command=_pico, packages=("libttspico-utils",),
              component="non-free")
FESTIVAL = Engine(program="festival", command=_festival, packages=("festival",))
RHVOICE = Engine(program="RHVoice-test", command=_rhvoice, packages=("rhvoice",),
                 component="non-free")
PICO_VOICES = "usr/share/pico/lang"
_FESTIVAL_VOICES = "usr/share/festival/voices"


def _pico_voice(lang: str, name: str) -> Voice:
    return Voice(engine=PICO, lang=lang, name=name, data=f"{PICO_VOICES}/{name}_ta.bin")


def _rhvoice_voice(name: str) -> Voice:
    """Only voices whose licence permits derived works: most of the package do not."""
    return Voice(engine=RHVOICE, lang="ru", name=name, packages=("rhvoice-russian",),
                 data=f"usr/share/RHVoice/voices/{name}")


VOICES = {
    "flite-slt": Voice(engine=FLITE, lang="en", name="slt"),
    # The pitch of these two is fixed by their recordings, or only partly adjustable.
    "flite-rms": Voice(engine=FLITE, lang="en", name="rms", lacks=("high", "low", "flat")),
    "flite-awb": Voice(engine=FLITE, lang="en", name="awb"),
    "flite-kal16": Voice(engine=FLITE, lang="en", name="kal16", lacks=("flat",)),
    "espeak-en": Voice(engine=ESPEAK, lang="en", name="en-us"),
    "espeak-es": Voice(engine=ESPEAK, lang="es", name="es-419"),
    "espeak-fr": Voice(engine=ESPEAK, lang="fr", name="fr"),
    "espeak-it": Voice(engine=ESPEAK, lang="it", name="it"),
    "espeak-ru": Voice(engine=ESPEAK, lang="ru", name="ru"),
    # Another timbre: espeak-ng speaks all languages in one voice.
    "espeak-en-f3": Voice(engine=ESPEAK, lang="en", name="en-us+f3", lacks=("whisper",)),
    "pico-en": _pico_voice("en", "en-US"),
    "pico-en-gb": _pico_voice("en", "en-GB"),
    "pico-es": _pico_voice("es", "es-ES"),
    "pico-fr": _pico_voice("fr", "fr-FR"),
    "pico-it": _pico_voice("it", "it-IT"),
    "festival-it-lp": Voice(engine=FESTIVAL, lang="it", name="lp_diphone",
                            data=f"{_FESTIVAL_VOICES}/italian/lp_diphone",
                            packages=("festvox-italp16k",)),
    "festival-it-pc": Voice(engine=FESTIVAL, lang="it", name="pc_diphone",
                            data=f"{_FESTIVAL_VOICES}/italian/pc_diphone",
                            packages=("festvox-itapc16k",)),
    "festival-ru": Voice(engine=FESTIVAL, lang="ru", name="msu_ru_nsh_clunits",
                         data=f"{_FESTIVAL_VOICES}/russian/msu_ru_nsh_clunits",
                         packages=("festvox-ru",)),
    "rhvoice-ru-elena": _rhvoice_voice("elena"),
    "rhvoice-ru-irina": _rhvoice_voice("irina"),
    "rhvoice-ru-anna": _rhvoice_voice("anna"),
    "rhvoice-ru-aleksandr": _rhvoice_voice("aleksandr-hq"),
}


def speaker_of(voice: str) -> str:
    """The voice without ``+STYLE``."""
    return voice.partition("+")[0]


def voice_language(voice: str, key: str = "") -> str:
    """Language of a voice, alone or followed by ``+STYLE``.

    Raises UserError for an unknown voice, or a style that it does not have; key: that names it."""
    key = key or f"corpus_data.hours.{voice}"
    base, plus, style = voice.partition("+")
    if base not in VOICES:
        raise UserError(f"{key}: no such voice; known: {', '.join(VOICES)}")
    if plus and style not in VOICES[base].styles:
        raise UserError(f"{key}: {base} has no such style; it has: "
                        f"{', '.join(VOICES[base].styles)}")
    return VOICES[base].lang


def find(voices: Iterable[str]) -> dict[str, Program]:
    """The program of each voice, by the voice's name without style.

    Raises UserError with the remedy for a program, or the data of a voice, that is missing."""
    return {v: _find(VOICES[v]) for v in sorted({speaker_of(v) for v in voices})}


def _find(voice: Voice) -> Program:
    return find_program(voice.engine.program, data=voice.data, component=voice.engine.component,
                        packages=(*voice.engine.packages, *voice.packages))


def fetch(voices: Iterable[str]) -> None:
    """Programs and data of ``voices`` into tools/deb, unless the machine has them.

    Raises UserError where they cannot be had."""
    packages, component = {}, ""
    for voice in (VOICES[speaker_of(v)] for v in voices):
        try:
            _find(voice)
        except UserError:
            packages |= dict.fromkeys((*voice.engine.packages, *voice.packages))
            component = component or voice.engine.component
    if not packages:
        return
    try:
        run_fetch_deb(DEB_ROOT, list(packages), "--dependencies",
                      *(["--component", component] if component else []))
    except UserError as e:
        raise UserError(f"{e}; or set corpus_data.hours of the voices that need "
                        f"{' '.join(packages)} to 0, and take them out of synthesis.lm_speakers"
                        ) from e


def command(text: str, voice: str, target: Path, program: Program) -> Command:
    """The call that makes ``voice``, with its ``+STYLE``, speak ``text`` into ``target``."""
    known = VOICES[speaker_of(voice)]
    return known.engine.command(program, known, voice.partition("+")[2] or "neutral", text, target)
