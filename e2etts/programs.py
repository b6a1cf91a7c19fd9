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
    def root(self) -> Path:
        """Root of the installation: ``/`` for /usr/bin/flite."""
        return Path(self.path).parent.parent.parent

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **self.added_env}


def find_program(name: str, deb_root: Path = DEB_ROOT, *, data: str = "",
                 packages: tuple[str, ...] = (), component: str = "") -> Program:
    """Find ``name``, and where it is given ``data``: what it reads below the root of its
    installation. ``packages`` of Debian (default: ``name``), in archive area ``component``, hold
    both.

    Order: the variable in VARIABLES, PATH, ``deb_root`` (filled by tools/fetch_deb.py).
    Raises UserError with the remedy if it is not found.
    """
    variable = VARIABLES.get(name, "")
    if os.environ.get(variable):
        path = shutil.which(os.environ[variable])
        if path is None:
            raise UserError(f"{variable}={os.environ[variable]}: no such program; "
                            "correct or unset the variable")
        return Program(path)
    path = shutil.which(name)
    if path and (Program(path).root / data).exists():
        return Program(path)
    program = Program(str(deb_root / "usr" / "bin" / name), _library_env(deb_root))
    if Path(program.path).exists() and (deb_root / data).exists():
        return program
    missing = f"{name} with /{data}" if data else name
    needed = " ".join(packages or (name,))
    area = f"--component {component} " if component else ""
    raise UserError(f"{missing}: not found in {f'${variable}, ' if variable else ''}PATH or "
                    f"{deb_root}; install it with 'apt install {needed}' or run "
                    f"'python tools/fetch_deb.py {area}tools/deb {needed}'")


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
