"""Find external programs: in an environment variable, PATH, or tools/deb of the repository."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from e2etts.errors import UserError

DEB_ROOT = Path(__file__).resolve().parents[1] / "tools" / "deb"
VARIABLES = {"espeak-ng": "E2ETTS_ESPEAK", "flite": "E2ETTS_FLITE"}


@dataclass(frozen=True)
class Program:
    """Path of a program and the environment variables to add when it runs."""

    path: str
    added_env: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **self.added_env}


def find_program(name: str, deb_root: Path = DEB_ROOT) -> Program:
    """Find ``name`` (espeak-ng, flite).

    Order: $E2ETTS_ESPEAK or $E2ETTS_FLITE, PATH, ``deb_root`` (filled by tools/fetch_deb.py).
    Raises UserError with the remedy if it is not found.
    """
    variable = VARIABLES[name]
    if os.environ.get(variable):
        path = shutil.which(os.environ[variable])
        if path is None:
            raise UserError(f"{variable}={os.environ[variable]}: no such program; "
                            "correct or unset the variable")
        return Program(path)
    if path := shutil.which(name):
        return Program(path)
    program = deb_root / "usr" / "bin" / name
    if program.exists():
        return Program(str(program), _library_env(deb_root))
    raise UserError(f"{name}: not found in ${variable}, PATH or {deb_root}; install it with "
                    f"'apt install {name}' or run 'python tools/fetch_deb.py tools/deb {name}'")


def _library_env(deb_root: Path) -> dict[str, str]:
    """Environment variables with the library and data folders of packages unpacked in ``deb_root``.

    Some Debian libraries have private parts one folder deeper (libpulsecommon).
    """
    folders = [f for base in ("usr/lib", "lib")
               for f in sorted((deb_root / base).glob("*-linux-gnu*")) if f.is_dir()]
    paths = [str(f) for folder in folders for f in (folder, folder / "pulseaudio") if f.is_dir()]
    env = {"LD_LIBRARY_PATH": ":".join([*paths, os.environ.get("LD_LIBRARY_PATH", "")]).strip(":")}
    data = [f for f in folders if (f / "espeak-ng-data").is_dir()]
    return {**env, "ESPEAK_DATA_PATH": str(data[0])} if data else env
