#!/usr/bin/env python3
"""Unpack Debian packages into a folder, without root and without touching the system.

    fetch_deb.py [--dependencies] [--component NAME] [--cache DIR] FOLDER PACKAGE...

The packages come from the machine's own apt sources, by its own signed package lists, which are
fetched again into --cache (default FOLDER/.apt). --dependencies adds the packages that they need
and that the machine lacks. --component reads that component (non-free) of the machine's Debian
mirrors too; Ubuntu has such packages in multiverse. What is there already is not fetched again;
FOLDER/packages.json holds the versions. Only the standard library is used.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

STAMP = "packages.json"
LISTS_KEEP_SECONDS = 3600
MACHINE_SOURCES = Path("/etc/apt")
NETWORK_SIGNS = ("Could not resolve", "Could not connect", "Failed to fetch", "Temporary failure",
                 "Connection failed", "Network is unreachable", "Unable to connect", "timed out")


class FetchError(Exception):
    """An error outside this program; the message states what, where and the remedy."""


def fetch(folder: Path, packages: list[str], dependencies: bool, cache: Path,
          component: str = "") -> dict[str, str]:
    """Unpack ``packages`` below ``folder``; returns the versions of all that is there.

    Raises FetchError: no apt, no network, unknown package, disk full. Packages appear in
    ``folder`` only when all were downloaded and unpacked.
    """
    stamp = folder / STAMP
    have = read_stamp(stamp)
    wanted = [p for p in packages if p not in have]
    if not wanted:
        return have
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise FetchError(f"{tool}: not found, so {' '.join(wanted)} cannot be fetched; "
                             "this needs Debian or Ubuntu: elsewhere install the same programs "
                             "yourself and put them on PATH")
    try:
        for part in ("archives/partial", "lists/partial"):
            (cache / part).mkdir(parents=True, exist_ok=True)
        if component:
            add_component(component, cache)
        update(cache)
        names = wanted + (missing_dependencies(wanted, cache) if dependencies else [])
        check_space(names, folder, cache)
        archives, files = download(list(dict.fromkeys(names)), cache)
        versions = unpack(files, folder)
        part = stamp.with_suffix(".part")
        part.write_text(json.dumps({**have, **versions}, indent=1, sort_keys=True) + "\n")
        part.replace(stamp)
        shutil.rmtree(archives)
    except OSError as e:
        raise FetchError(f"{e.filename or folder}: {e.strerror}; free space or choose "
                         "another folder") from e
    return {**have, **versions}


def read_stamp(stamp: Path) -> dict[str, str]:
    try:
        return json.loads(stamp.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as e:
        raise FetchError(f"{stamp}: damaged; remove the file and run again") from e


def apt(args: list[str], cache: Path, cwd: Path | None = None) -> str:
    """Run apt with its lists and archives below ``cache``; returns stdout."""
    cache = cache.resolve()
    options = {"Dir::State": cache, "Dir::State::lists": cache / "lists",
               "Dir::State::status": "/var/lib/dpkg/status", "Dir::Cache": cache,
               "Dir::Cache::archives": cache / "archives",
               "Dir::Cache::pkgcache": "pkgcache.bin", "Dir::Cache::srcpkgcache": "",
               "Debug::NoLocking": 1,
               "APT::Get::Assume-Yes": 1, "APT::Update::Error-Mode": "any",
               "Acquire::Languages": "none", "Acquire::Retries": 3, "Acquire::http::Timeout": 20,
               "Acquire::https::Timeout": 20, "APT::Install-Recommends": 0}
    if (cache / "sources").is_dir():  # of add_component
        options |= {"Dir::Etc::sourcelist": cache / "sources/sources.list",
                    "Dir::Etc::sourceparts": cache / "sources/sources.list.d"}
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options["APT::Sandbox::User"] = "root"
    command = [args[0], *(f"-o{k}={v}" for k, v in options.items()), *args[1:]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        message = " ".join((lines or done.stderr.splitlines() or ["no message"])[0].split())
        remedy = "look at the machine's apt sources"
        if "No space left" in done.stderr:
            message, remedy = f"disk full below {cache}", "free some space"
        elif any(sign in done.stderr for sign in NETWORK_SIGNS):
            remedy = "check the network and run again"
        raise FetchError(f"{' '.join(args[:2])}: {message[:240]}; {remedy}")
    return done.stdout


def add_component(component: str, cache: Path, machine: Path = MACHINE_SOURCES) -> None:
    """Copy the machine's apt sources below ``cache``, with ``component`` for Debian's mirrors.

    The copy keeps keys and options of each source; the lists are fetched again if it is new.
    """
    mirror = r"/debian(?:\.list)?/?"  # a URI's end; other repositories lack the component
    for path in [machine / "sources.list", *sorted((machine / "sources.list.d").glob("*"))]:
        if not path.is_file() or path.suffix not in (".list", ".sources"):
            continue
        text = path.read_text()
        if path.suffix == ".list":
            text = re.sub(rf"(?m)^(deb\s.*{mirror}[ \t]+\S+[ \t].*?)\s*$", rf"\1 {component}", text)
        else:
            text = "\n\n".join(
                re.sub(r"(?m)^(Components:.*?)\s*$", rf"\1 {component}", stanza)
                if re.search(rf"(?m)^URIs:.*{mirror}\s*$", stanza) else stanza
                for stanza in re.split(r"\n\s*\n", text))
        copy = cache / "sources" / path.relative_to(machine)
        if not copy.exists() or copy.read_text() != text:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
            (cache / "lists/fetched").unlink(missing_ok=True)


def update(cache: Path) -> None:
    """Fetch the package lists unless those below ``cache`` are young."""
    fresh = cache / "lists" / "fetched"
    if fresh.exists() and time.time() - fresh.stat().st_mtime < LISTS_KEEP_SECONDS:
        return
    print("fetch_deb: reading the package lists", file=sys.stderr, flush=True)
    apt(["apt-get", "update", "-q"], cache)
    fresh.touch()


def missing_dependencies(packages: list[str], cache: Path) -> list[str]:
    """What apt would install beside ``packages`` on this machine."""
    try:
        plan = apt(["apt-get", "install", "--simulate", *packages], cache)
    except FetchError as e:
        if "Unable to locate" in str(e):
            raise
        print(f"fetch_deb: dependencies not resolved, trying without them ({e})", file=sys.stderr)
        return []
    return [m[1] for m in re.finditer(r"^Inst (\S+)", plan, re.M)]


def check_space(names: list[str], folder: Path, cache: Path) -> None:
    try:
        shown = apt(["apt-cache", "show", "--no-all-versions", *names], cache)
    except FetchError as e:
        if "No packages found" not in str(e):
            raise
        shown = ""
    found = set(re.findall(r"^Package: (\S+)", shown, re.M))
    if missing := [n for n in names if n.partition(":")[0] not in found]:
        raise FetchError(f"{' '.join(missing)}: no such package in this machine's apt sources; "
                         "correct the name or the sources")
    need_mb = sum(int(m[1]) for m in re.finditer(r"^Installed-Size: (\d+)", shown, re.M)) / 1024
    need_mb += sum(int(m[1]) for m in re.finditer(r"^Size: (\d+)", shown, re.M)) / 2**20
    folder.mkdir(parents=True, exist_ok=True)
    free_mb = shutil.disk_usage(folder).free / 2**20
    if free_mb < need_mb + 20:
        raise FetchError(f"{folder}: disk full: {need_mb:.0f} MB needed for {' '.join(names)}, "
                         f"{free_mb:.0f} MB free; free some space")


def download(names: list[str], cache: Path) -> tuple[Path, list[Path]]:
    """(folder, archives in it). A broken download resumes in the same folder."""
    print(f"fetch_deb: fetching {len(names)} packages: {' '.join(names)}", file=sys.stderr,
          flush=True)
    folder = cache / "archives" / hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]
    folder.mkdir(exist_ok=True)
    apt(["apt-get", "download", "-q", *names], cache, cwd=folder)
    files = sorted(folder.glob("*.deb"))
    if len(files) < len(names):
        raise FetchError(f"{folder}: {len(files)} archives of {len(names)} arrived; run again")
    return folder, files


def unpack(files: list[Path], folder: Path) -> dict[str, str]:
    """Unpack beside ``folder``, then move everything in."""
    part = folder / ".unpack"
    shutil.rmtree(part, ignore_errors=True)
    versions = {}
    try:
        for file in files:
            run_dpkg(["--extract", str(file), str(part)])
            name, version = run_dpkg(
                ["--show", "--showformat=${Package} ${Version}", str(file)]).split()
            versions[name] = version
        for source in sorted(part.rglob("*")):
            target = folder / source.relative_to(part)
            if source.is_dir() and not source.is_symlink():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                source.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return versions


def run_dpkg(args: list[str]) -> str:
    done = subprocess.run(["dpkg-deb", *args], capture_output=True, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        message = " ".join(done.stderr.split())
        remedy = "free some space" if "No space left" in message else "run again"
        raise FetchError(f"dpkg-deb {args[0]}: {message[:240]}; {remedy}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("packages", nargs="+", metavar="PACKAGE")
    parser.add_argument("--dependencies", action="store_true")
    parser.add_argument("--component", default="")
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    try:
        cache = args.cache or args.folder / ".apt"
        versions = fetch(args.folder, args.packages, args.dependencies, cache, args.component)
    except FetchError as e:
        print(f"fetch_deb: error: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"fetch_deb: {args.folder}: " + ", ".join(f"{p} {versions[p]}" for p in args.packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
