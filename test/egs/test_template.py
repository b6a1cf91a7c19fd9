"""Runs the code blocks of the page "Add a corpus" on a synthetic corpus."""

import csv
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from e2etts.data.datadir import DataDir

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "egs/TEMPLATE/README.md").read_text(encoding="utf-8")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "red", "green", "blue", "white"]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home with ~/speech as the page describes it: other rates, two channels, broken rows."""
    home = tmp_path_factory.mktemp("home")
    random = np.random.default_rng(0)
    (home / "speech/clips").mkdir(parents=True)
    header = blocks(PAGE, "csv")[0].splitlines()[0].split(",")
    with (home / "speech/list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(header)
        for i in range(48):
            name, rate = f"clips/{i:04d}.wav", (16000, 22050, 48000)[i % 3]
            tone = 0.3 * np.sin(np.arange(int(1.2 * rate)) * (0.02 + 0.002 * i))
            wav = tone + 0.01 * random.standard_normal(len(tone))
            soundfile.write(home / "speech" / name, np.stack([wav, wav], 1) if i % 5 == 0 else wav,
                            rate)
            text = " ".join(random.choice(WORDS, 3)) + f", {i}."
            rows.writerow([name, text, ("anna", "ben")[i % 2]])
        rows.writerow(["clips/none.wav", "No such file.", "ben"])
        rows.writerow(["clips/0003.wav", "", "ben"])
    return home


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """What of the repository a recipe needs, without what earlier runs left there."""
    clone = tmp_path_factory.mktemp("clone")
    for name in ("utils", "egs/TEMPLATE"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns(
            "__pycache__", "exp", "dump*", "data", "data_*"))
    # The environment of this test serves; nothing is installed.
    write_program(clone / "tools/install.sh", '[ "$1" != --where ] || echo "$VENV"')
    return clone


def follow(text: str, folder: Path, home: Path) -> str:
    """Run the shell blocks of the page one by one; write blocks that name a file."""
    output = ""
    venv = home / "venv"
    if not venv.exists():
        write_program(venv / "bin/python", f'exec "{shutil.which("python")}" "$@"')
        write_program(venv / "bin/e2etts", 'exec python -m e2etts.bin.main "$@"')
    env = {**os.environ, "HOME": str(home), "VENV": str(venv), "OMP_NUM_THREADS": "1",
           "PYTHONPATH": str(ROOT)}
    for block in blocks(text, "sh"):
        named = re.match(r"# (local/\S+)\n", block)
        if named:
            (folder / named[1]).write_text(block.removeprefix(named[0]) if named[1].endswith(
                ".txt") else block)
            continue
        done = subprocess.run(["bash", "-euc", block + "pwd >$HOME/pwd"], cwd=folder, env=env,
                              capture_output=True, text=True)
        assert done.returncode == 0, block + done.stdout + done.stderr
        folder = Path((home / "pwd").read_text().strip())
        output += done.stdout
    return output


def write_program(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


def sections() -> dict[str, str]:
    first, *others = re.split(r"^## (.+)\n", PAGE, flags=re.M)
    return {"": first, **dict(zip(others[::2], others[1::2], strict=True))}


def test_the_page_needs_few_lines():
    written = [line for block in blocks(PAGE, "sh") for line in block.splitlines() if line.strip()]
    assert 8 <= len(written) <= 40


@pytest.fixture(scope="module")
def prepared(clone, home):
    parts = sections()
    page = parts[""] + parts["Describe the corpus"] + parts["Prepare and check the data"]
    output = follow(page, clone, home)
    return clone / "egs/mine", output


def test_data_preparation_of_the_page(prepared):
    folder, output = prepared
    sets = {name: DataDir.load(folder / "data" / name)
            for name in ("train", "dev", "test", "sentences")}
    assert [len(s) for s in sets.values()] == [28, 10, 10, 2]
    assert "columns audio=file text=sentence speaker=who" in output
    listed = (folder / "data/all/left_out.tsv").read_text()
    assert "no such file" in listed and "list.csv:51\tno text" in listed
    assert "2 left out" in output and len(listed.splitlines()) == 3
    for path in sets["train"].wav.values():
        info = soundfile.info(folder / path)
        assert (info.samplerate, info.channels) == (16000, 1)
    assert set(sets["sentences"].utt2spk.values()) == {"anna"}
    assert (folder / "dump/train/mel.ark").exists() and (folder / "dump/sentences").exists()


@pytest.mark.nightly
def test_smoke_test_of_the_page(prepared, home):
    folder, _ = prepared
    output = follow(sections()["Smoke test"], folder, home)
    wavs = sorted((folder / "exp/smoke/wavs/tts/sentences").glob("*.wav"))
    assert len(wavs) == 2 and all(soundfile.info(w).frames > 0 for w in wavs)
    assert wavs[0].name in output
    again = follow(sections()["Prepare and check the data"], folder, home)
    assert again.count(": up to date: ") == 4
