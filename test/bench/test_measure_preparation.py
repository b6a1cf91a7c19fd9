"""bench/measure_preparation.py."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "bench/measure_preparation.py"


def call(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True,
                          text=True, check=False)


def test_help_has_examples():
    done = call("--help")
    assert done.returncode == 0 and "python bench/measure_preparation.py" in done.stdout


def test_measuring_runs_the_real_commands(tmp_path):
    """On a list so small that its times say nothing."""
    done = call("--utterances", 4000, "--folder", tmp_path,
                "text.model_type=unigram", "text.vocab_size=60")
    assert done.returncode == 0, done.stderr
    assert "train: data/train -> dump/train: 3000 utterances" in done.stdout
    assert "0 skipped" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.endswith(" MiB")]
    assert len(rows) == 3 and all(float(row[-2]) > 10 for row in rows[1:])
    assert not list(tmp_path.iterdir())
    done = call("--utterances", 4000, "--folder", tmp_path, "text.model_typ=char")
    assert done.returncode == 2
    assert "nearest known key: 'text.model_type'" in done.stderr
