"""Download the recordings: from the public release (resumable), else from Debian packages."""

import errno
import http.client
import shutil
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

from settings import MiniData

from e2etts.data.download import fetch_resumable
from e2etts.errors import UserError

REPO = Path(__file__).resolve().parents[3]
APT_CACHE = REPO / "tools/deb/.apt"
VERSION = "1.6.1"


def run_fetch_deb(folder: Path, packages: list[str], *options: str) -> None:
    """Run tools/fetch_deb.py and pass on its error message."""
    command = [sys.executable, str(REPO / "tools" / "fetch_deb.py"), *options,
               "--cache", str(APT_CACHE), str(folder), *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.strip().splitlines()
    if done.returncode:
        raise UserError(lines[-1].removeprefix("fetch_deb: error: ") if lines
                        else f"fetch_deb fails with status {done.returncode}")
    for line in lines:
        print(line, flush=True)


def fetch_all(download: Path, config: MiniData) -> dict[str, tuple[Path, Path]]:
    """Language -> (folder of .g722 files, transcript), from the release, else from Debian.

    Uses existing files; an unreachable release is tried only once, not per language.
    """
    found, why = {}, ""
    for lang in config.languages:
        release = download / "release" / lang
        transcript = release / f"core-sounds-{lang}.txt"
        if not (transcript.exists() or in_debian_folder(lang, download) or why):
            why = fetch_release(lang, download, config)
            if why:
                print(f"data: Debian packages instead of the release: {why}", flush=True)
        found[lang] = ((release, transcript) if transcript.exists()
                       else fetch_from_debian(lang, download, why))
    return found


def fetch_release(lang: str, download: Path, config: MiniData) -> str:
    """Download and unpack one language; returns the reason of a failure, empty on success."""
    name = f"asterisk-core-sounds-{lang}-g722-{VERSION}.tar.gz"
    try:
        archive = fetch_resumable(f"{config.release_url}/{name}", download / name,
                                  config.download_timeout_seconds)
    except (OSError, http.client.HTTPException) as e:
        if isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return f"{config.release_url}: {e}"
    try:
        unpack_release(archive, download / "release" / lang)
    except (tarfile.TarError, EOFError, zlib.error) as e:
        archive.unlink()
        return f"{archive.name} is damaged ({e})"
    return "" if (download / "release" / lang / f"core-sounds-{lang}.txt").exists() else (
        f"{archive.name} holds no transcript")


def unpack_release(archive: Path, folder: Path) -> None:
    """Extract only .g722 and transcript files, with names inside ``folder``."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = Path(member.name)
            wanted = member.isfile() and (inside.suffix == ".g722"
                                          or inside.name.startswith("core-sounds-"))
            if not wanted or inside.is_absolute() or ".." in inside.parts:
                continue
            target = part / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(tar.extractfile(member).read())
    shutil.rmtree(folder, ignore_errors=True)
    part.replace(folder)


def in_debian_folder(lang: str, download: Path) -> bool:
    stamp = download / "deb" / "packages.json"
    return stamp.exists() and f'"asterisk-core-sounds-{lang}-g722"' in stamp.read_text()


def fetch_from_debian(lang: str, download: Path, why: str) -> tuple[Path, Path]:
    """The same files from Debian's packages. Raises UserError if these are unavailable too."""
    deb, package = download / "deb", f"asterisk-core-sounds-{lang}"
    try:
        run_fetch_deb(deb, [package, f"{package}-g722"])
    except UserError as e:
        raise UserError(f"recordings ({lang}): neither the release ({why}) nor Debian's packages "
                        f"could be had: {e}") from e
    folders = sorted((deb / "usr/share/asterisk/sounds").glob(f"{lang}_*"))
    transcript = deb / f"usr/share/doc/{package}/core-sounds-{lang}.txt.gz"
    if len(folders) != 1 or not transcript.exists():
        raise UserError(f"{deb}: {package} lacks its sounds or transcript; remove the folder "
                        "and run again")
    return folders[0], transcript
