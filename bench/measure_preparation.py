"""Measure time and memory of data preparation on a made list.

Makes a list of utterances with English texts and short clips (hard links to a few hundred files),
then runs the commands a corpus goes through, each in a process of its own, and prints seconds and
peak memory of the process and its workers together (proportional set size, Linux only).

examples:
  python bench/measure_preparation.py --utterances 300000
  python bench/measure_preparation.py --utterances 75000 text.model_type=unigram text.phonemes=true
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from e2etts.cli import tool
from e2etts.data.datadir import DataDir
from e2etts.errors import UserError

RATE_HZ, CLIPS, SPEAKERS = 16000, 300, 500
UTILS = Path(__file__).resolve().parents[1] / "utils"
CONFIG = "corpus: {dev: dev, tests: [test]}\ntext: {phonemes: false}\nstages: {}\n"


def make_list(folder: Path, utterances: int, clip_seconds: float) -> None:
    """``folder/data/all``: made texts of 5 to 20 words, and ``folder/wav`` with their clips."""
    rng, noise = random.Random(0), np.random.default_rng(0)
    words = ["".join(rng.choices("etaoinshrdlucmfwypvbgk", range(22, 0, -1), k=rng.randint(2, 9)))
             for _ in range(30000)]
    clips = []
    for i in range(CLIPS):
        clips.append(folder / "clips" / f"{i}.wav")
        clips[-1].parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(clips[-1], 0.1 * noise.standard_normal(int(clip_seconds * RATE_HZ)),
                        RATE_HZ, "PCM_16")
    data = DataDir({}, {}, {})
    for i in range(utterances):
        speaker = f"speaker-{i % SPEAKERS:03d}"
        utt = f"{speaker}-{i:07d}"
        text = " ".join(words[min(int(rng.paretovariate(0.7)) - 1, len(words) - 1)]
                        for _ in range(rng.randint(5, 20)))
        data.text[utt] = f"{text.capitalize()}, {rng.randint(1, 3000)}."
        data.utt2lang[utt], data.utt2spk[utt] = "en", speaker
        path = folder / "wav" / speaker / f"{utt}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(clips[i % CLIPS], path)
        data.wav[utt] = str(path)
    data.save(folder / "data" / "all")


def tree_mib(pid: int) -> float:
    """Proportional set size of a process and all of its descendants."""
    total, pids = 0.0, [pid]
    while pids:
        pid = pids.pop()
        try:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) / 1024
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return total


def measure(what: str, command: list[str], folder: Path) -> float:
    """Run, print one row, return seconds. Raises UserError when the command fails."""
    begin, peak, looked = time.monotonic(), 0.0, 0.0
    log = folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            if time.monotonic() - looked > 0.1:
                peak, looked = max(peak, tree_mib(process.pid)), time.monotonic()
            time.sleep(0.05)
    seconds = time.monotonic() - begin
    output = log.read_text(errors="replace").splitlines()
    if process.returncode:
        raise UserError(f"{' '.join(command)}: status {process.returncode}: {output[-1:]}")
    print(f"{what:<28}{seconds:8.1f} s {peak:8.0f} MiB", flush=True)
    for line in output:
        if line.endswith(" s)"):
            print(f"    {line}", flush=True)
    return seconds


def run(args: argparse.Namespace) -> None:
    """Make the list, run every command, print the table."""
    folder = Path(tempfile.mkdtemp(prefix="preparation-", dir=args.folder))
    try:
        begin = time.monotonic()
        make_list(folder, args.utterances, args.clip_seconds)
        print(f"{args.utterances} utterances, {args.clip_seconds:g} s each, {args.workers} "
              f"processes (made in {time.monotonic() - begin:.0f} s)", flush=True)
        (folder / "conf.yaml").write_text(CONFIG)
        e2etts = [sys.executable, "-m", "e2etts.bin.main"]
        workers = ["--workers", str(args.workers)]
        total = measure("split_data_dir", [
            sys.executable, str(UTILS / "split_data_dir.py"), "data/all", "data", "--part",
            "test=500", "--part", "dev=500", "--unique_text"], folder)
        total += measure("validate (headers)", [
            *e2etts, "validate", "--headers", *workers, "--characters_per_second", "0", "1000",
            "data/train", "data/dev", "data/test"], folder)
        total += measure("prepare", [*e2etts, "prepare", "--config", "conf.yaml", *workers,
                                     *args.overrides], folder)
        print(f"{'total':<28}{total:8.1f} s", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--utterances", type=int, default=300000, metavar="N",
                        help="length of the list (default: %(default)s)")
    parser.add_argument("--clip_seconds", type=float, default=0.2, metavar="S",
                        help="length of a clip: short, so that mel spectrograms, whose time goes "
                             "by hours and not by utterances, weigh little (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, metavar="N",
                        help="processes (default: %(default)s)")
    parser.add_argument("--folder", metavar="DIR", help="where to make the list (default: the "
                                                        "folder for temporary files)")
    parser.add_argument("overrides", nargs="*", metavar="key=value",
                        help="override configuration keys of e2etts prepare")


if __name__ == "__main__":
    sys.exit(tool(__file__, __doc__, add_arguments, run))
