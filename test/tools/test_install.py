"""tools/install.sh in a copied tree, with a Python that only notes the arguments of pip."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# FAIL holds what pip writes to its log before it stops.
PYTHON = """#!/usr/bin/env bash
here=$(dirname "$0")
case "$*" in
    *"pip install"*)
        echo "$*" >>"$here/../calls"
        while [ "$1" != --log ]; do shift; done
        echo "${FAIL:-installed}" >>"$2"
        [ -z "${FAIL:-}" ] || exit 1
        touch "$here/e2etts" && chmod +x "$here/e2etts" ;;
    --version) echo "Python 3.11.0" ;;
esac
"""


@pytest.fixture
def tree(tmp_path):
    """A copy of the tree with an environment that was made, but not yet installed into."""
    for name in ("setup.py", "tools/install.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    venv = tmp_path / "tools" / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("version = 3.11.0\n")
    (venv / "bin" / "python").write_text(PYTHON)
    (venv / "bin" / "python").chmod(0o755)
    return tmp_path


def install(tree, *arguments, **env):
    clean = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "E2ETTS_VENV")}
    return subprocess.run([str(tree / "tools" / "install.sh"), *arguments], capture_output=True,
                          text=True, env={**clean, **env}, timeout=60)


def calls(tree):
    path = tree / "tools" / "venv" / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_second_run_is_quick_and_asks_pip_nothing(tree):
    assert install(tree, "--extras", "dev,score").returncode == 0
    assert len(calls(tree)) == 2
    assert f"--editable {tree}[dev,score]" in calls(tree)[0]
    assert "--no-deps resemblyzer" in calls(tree)[1]
    begin = time.monotonic()
    done = install(tree, "--extras", "score")
    seconds = time.monotonic() - begin
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(calls(tree)) == 2
    assert seconds < 2  # 0.03 s on an idle machine


def test_extras_of_later_calls_join_the_earlier_ones(tree):
    install(tree)
    assert calls(tree)[0].endswith(f"--editable {tree}")
    install(tree, "--extras", "dev")
    install(tree, "--extras", "score")
    assert f"{tree}[dev]" in calls(tree)[1] and f"{tree}[dev,score]" in calls(tree)[2]


@pytest.mark.parametrize("changed", ["setup.py", "tools/venv/pyvenv.cfg", "tools/install.sh"])
def test_change_of_what_it_depends_on_installs_again_with_all_extras(tree, changed):
    install(tree, "--extras", "dev")
    with (tree / changed).open("a") as file:
        file.write("\n# changed\n")
    assert install(tree).returncode == 0
    assert len(calls(tree)) == 2 and f"{tree}[dev]" in calls(tree)[1]


@pytest.mark.parametrize("said, words", [
    ("WARNING: NewConnectionError('<pip>: Failed to establish')", "no network"),
    ("ERROR: Could not install: [Errno 28] No space left on device", "no disk space left"),
    ("2026 ERROR: No matching distribution found for torch", "No matching distribution found"),
])
def test_failing_pip_is_explained_and_the_next_run_tries_again(tree, said, words):
    done = install(tree, FAIL=said)
    assert done.returncode == 2
    assert words in done.stderr and done.stderr.count("\n") == 1
    assert install(tree).returncode == 0
    assert len(calls(tree)) == 2


def test_runs_at_once_install_one_after_the_other(tree):
    python = tree / "tools" / "venv" / "bin" / "python"
    python.write_text(PYTHON.replace('echo "$*" >>', 'sleep 0.5; echo "$*" >>'))
    env = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "E2ETTS_VENV")}
    both = [subprocess.Popen([str(tree / "tools" / "install.sh")], env=env,
                             stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert len(calls(tree)) == 1


def test_choice_of_environment(tree, tmp_path):
    assert install(tree, "--where").stdout.strip() == str(tree / "tools" / "venv")
    assert install(tree, "--where", VIRTUAL_ENV="/a").stdout.strip() == "/a"
    assert install(tree, "--where", VIRTUAL_ENV="/a", E2ETTS_VENV="/b").stdout.strip() == "/b"


@pytest.mark.parametrize("arguments, words", [
    (["--extra", "dev"], "unknown argument '--extra'"), (["--extras"], "--extras needs a list"),
    (["--extras", "dev;rm"], "--extras 'dev;rm'"),
])
def test_wrong_arguments(tree, arguments, words):
    done = install(tree, *arguments)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    assert not calls(tree)


def test_folder_that_is_no_environment_is_left_alone(tree):
    other = tree / "other"
    other.mkdir()
    (other / "precious").write_text("x")
    done = install(tree, E2ETTS_VENV=str(other))
    assert done.returncode == 2 and "is not a virtual environment" in done.stderr
    assert (other / "precious").read_text() == "x"


def test_old_python_is_refused(tree):
    (tree / "bin").mkdir()
    for name in ("python3", "python3.10", "python3.11", "python3.12", "python3.13"):
        (tree / "bin" / name).write_text(
            '#!/bin/sh\n[ "$1" != --version ] || echo "Python 3.8.18"\n[ "$1" != -c ]\n')
        (tree / "bin" / name).chmod(0o755)
    done = install(tree, E2ETTS_VENV=str(tree / "new"), PATH=f"{tree}/bin:{os.environ['PATH']}")
    assert done.returncode == 2
    assert "no Python >= 3.10 found (Python 3.8.18)" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tree / "new").exists()
