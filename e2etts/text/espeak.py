"""Phonemes by espeak-ng: through its shared library if it loads, else through its program.

The program synthesises audio even when only phonemes are requested, which takes thirty times as
long as G2P alone; ``espeak_TextToPhonemes`` of the library does not. The two differ for clauses
without a stressed word: the intonation of the program stresses one. The program always processes
these clauses, for equal results.
"""

import ctypes
import os
import re
import subprocess
from functools import lru_cache
from pathlib import Path

from e2etts.errors import UserError
from e2etts.programs import VARIABLES, Program, find_program

# From speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT, espeakCHARS_UTF8, and the
# mode that writes IPA.
_SYNCHRONOUS, _DONT_EXIT, _UTF8, _IPA = 2, 0x8000, 1, 2


def sounds(clauses: list[str], voice: str) -> list[str]:
    """IPA with stress marks, words separated by spaces, for clauses without punctuation.

    Raises UserError when espeak-ng is missing or fails.
    """
    program = find_program("espeak-ng")
    library = _library_of(program)
    if library is None or library.espeak_SetVoiceByName(voice.encode()):
        answers = _by_program(clauses, voice, program)
    else:
        answers = [_by_library(clause, library) for clause in clauses]
        weak = [i for i, answer in enumerate(answers) if "ˈ" not in answer]
        for i, answer in zip(weak, _by_program([clauses[i] for i in weak], voice, program),
                             strict=True):
            answers[i] = answer
    return [re.sub(r"\([a-z-]+\)|-", "", a).replace("_", " ").strip() for a in answers]


def _by_program(clauses: list[str], voice: str, program: Program) -> list[str]:
    """Run one process on all clauses: one clause per line in, one line per clause out."""
    command = [program.path, "-q", "--ipa", "-v", voice]

    def run(some: list[str]) -> list[str]:
        done = subprocess.run(command, input="".join(c + "\n" for c in some).encode(),
                              capture_output=True, env=program.env, check=False)
        if done.returncode:
            reason = " ".join(done.stderr.decode(errors="replace").split())[:200]
            raise UserError(f"{program.path}: fails with status {done.returncode}: {reason}; "
                            "reinstall espeak-ng")
        return done.stdout.decode("utf-8").splitlines()

    answers = run(clauses) if clauses else []
    if len(answers) != len(clauses):  # espeak-ng splits a clause into several lines
        answers = [" ".join(run([clause])) for clause in clauses]
    return answers


def _by_library(clause: str, library: ctypes.PyDLL) -> str:
    left = ctypes.c_char_p(clause.encode())  # null at the end of the text
    answers = []
    while left.value is not None:
        answers.append(library.espeak_TextToPhonemes(ctypes.byref(left), _UTF8, _IPA).decode())
    return " ".join(answers)


def _library_of(program: Program) -> ctypes.PyDLL | None:
    """The library of the program; None if it does not load, or if the user chose the program, whose
    library is then unknown."""
    if os.environ.get(VARIABLES["espeak-ng"]):
        return None
    return _library(program.added_env.get("LD_LIBRARY_PATH", ""),
                    program.added_env.get("ESPEAK_DATA_PATH"))


@lru_cache
def _library(folders: str, data: str | None) -> ctypes.PyDLL | None:
    """Calls hold the GIL: espeak-ng has one global state for all threads."""
    try:
        library = _load("libespeak-ng.so.1", folders.split(":"))
    except OSError:
        return None
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    library.espeak_TextToPhonemes.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int,
                                              ctypes.c_int]
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, data and data.encode(), _DONT_EXIT)
    return library if rate_hz > 0 else None


def _load(name: str, folders: list[str]) -> ctypes.PyDLL:
    """Load a library from ``folders``, else from the system. Dependencies in ``folders`` are loaded
    first, since the dynamic loader does not search there. Raises OSError."""
    here = {path.name: str(path) for folder in folders if folder
            for path in Path(folder).glob("lib*.so*")}
    tried = {name}
    while True:
        try:
            return ctypes.PyDLL(here.get(name, name), mode=ctypes.RTLD_GLOBAL)
        except OSError as e:
            needed = str(e).partition(":")[0]  # libsonic.so.0: cannot open shared object file
            if needed in tried or needed not in here:
                raise
            tried.add(needed)
            _load(needed, folders)
