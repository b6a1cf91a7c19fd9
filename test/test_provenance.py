import subprocess

from e2etts import provenance
from e2etts.provenance import commit


def test_only_changes_outside_of_results_make_a_commit_dirty(tmp_path):
    def git(*args):
        return subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *args],
                              cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    results = ("egs/mini/results.json", "egs/mini/RESULTS.md", "egs/mini/ablation.json",
               "egs/mini/ABLATION.md", "egs/mini/figures/wer.svg")
    git("init", "-q")
    for name in (*results, "egs/mini/conf/figures.yaml", "code.py"):
        write(name, "before")
    git("add", "-A")
    git("commit", "-q", "-m", "all")
    head = git("rev-parse", "HEAD").strip()
    for name in (*results, "exp/log.txt"):
        write(name, "after")
    assert commit(tmp_path) == head
    for name in ("egs/mini/conf/figures.yaml", "code.py"):
        write(name, "after")
        assert commit(tmp_path) == head + "+dirty"
        write(name, "before")


def test_without_git_the_commit_is_unknown(tmp_path):
    assert commit(tmp_path) == "unknown"


def test_the_running_commit_is_read_from_git_once(monkeypatch):
    provenance.running_commit.cache_clear()
    names = iter(["first"])
    monkeypatch.setattr(provenance, "commit", lambda: next(names))
    assert provenance.running_commit() == provenance.running_commit() == "first"
    provenance.running_commit.cache_clear()
