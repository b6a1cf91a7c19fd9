"""Provenance of results: commit, hardware, training time and memory of an experiment."""

import functools
import os
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from e2etts.files import read_json

PROGRAM = Path(__file__).resolve().parents[1]
TRAINING_STAGES = ("vocoder", "tokenizer", "lm", "fm", "rm", "joint")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")


def hardware() -> str:
    """CPU, cores, memory, matrix instructions and torch version in one line."""
    cpu, flags, memory = "unknown CPU", set(), 0.0
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name == "model name":
                cpu = " ".join(value.split())
            elif name in ("flags", "Features"):
                flags.update(value.split())
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        torch = f"torch {version('torch')}"
    except PackageNotFoundError:
        torch = "no torch"
    known = " ".join(f for f in FLAGS if f in flags)
    return ", ".join(p for p in (cpu, f"{cores} cores", f"{memory:.1f} GiB", known, torch) if p)


def commit(root: Path = PROGRAM) -> str:
    """Commit of this program, with "+dirty" if tracked files other than results differ; "unknown"
    for an installed package."""
    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=root, timeout=20,
                              capture_output=True, text=True, check=True).stdout.strip()

    try:
        name = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".",
                      *(f":!egs/*/{file}" for file in ("results.json", "RESULTS.md", "figures/*",
                                                       "ablation.json", "ABLATION.md")))
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return name + ("+dirty" if changed else "")


@functools.cache
def running_commit() -> str:
    """The commit that this process runs: ``commit`` as of the first call, which belongs at its
    start. A later call starts no process, see ``peak_gib``."""
    return commit()


def peak_gib(children: int = 1) -> float:
    """Upper bound of the most memory that this process held, and ``children`` processes as large
    as the largest of those that have ended. On Linux a process that was started counts as at least
    as large as this one was then, whatever it runs."""
    scale = 2**30 if sys.platform == "darwin" else 2**20
    own, child = (resource.getrusage(who).ru_maxrss / scale
                  for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own + children * child


def training(exp: Path) -> dict[str, Any]:
    """{"train_seconds", "peak_gib", "training": {stage: summary}} from the stages' summaries."""
    found = {stage: read_json(exp / stage / "summary.json") for stage in TRAINING_STAGES}
    found = {k: v for k, v in found.items() if isinstance(v, dict)}
    return {"train_seconds": round(sum(s.get("seconds") or 0.0 for s in found.values()), 1),
            "peak_gib": max((s.get("peak_gib") or 0.0 for s in found.values()), default=0.0),
            "training": found}


def stages(exp: Path, own_seconds: float) -> dict[str, Any]:
    """{"wall_seconds", "stages"} from stages.json. On a first run it does not have the running
    score stage yet, so the time of that stage so far is added."""
    rows = read_json(exp / "stages.json")
    rows = [r for r in rows if isinstance(r, dict) and "seconds" in r] \
        if isinstance(rows, list) else []
    if not any(r.get("name") == "score" for r in rows):
        rows.append({"stage": 10, "name": "score", "seconds": round(own_seconds, 1)})
    return {"wall_seconds": round(sum(r["seconds"] for r in rows), 1), "stages": rows}
