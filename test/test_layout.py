"""Imports run one way, nets see tensors only, and no tracked file names somebody's machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "e2etts"

# A module may import from its own layer and from those below. The recipe gathers the
# configurations of all it sets up, and so stands above them.
LAYERS = {"nets": 0, "data": 2, "train": 2, "infer.config": 2, "score.config": 2,
          "recipe": 3, "tasks": 4, "infer": 4, "score": 4, "bench": 5,
          "ablation": 5, "plan": 5, "bin": 6}
BASE_LAYER = 1  # errors, config, audio, text, ...: modules directly in the package
# transformers: the modules of published speech encoders, which nets compose.
NET_IMPORTS = {"torch", "torchaudio", "math", "dataclasses", "typing", "collections", "functools",
               "transformers", "e2etts"}


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, wherever in the file it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names.add(node.module)
            if node.module == "e2etts":
                names.update(f"e2etts.{alias.name}" for alias in node.names)
    return names


def layer(module: str) -> int:
    parts = module.split(".")[1:]
    return LAYERS.get(".".join(parts[:2]), LAYERS.get(parts[0] if parts else "", BASE_LAYER))


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = ".".join(parts)
    wrong = [name for name in imported(path) if name.startswith("e2etts.")
             and layer(name) > layer(module)]
    assert not wrong, f"{module} imports from a layer above its own: {wrong}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "nets").glob("*.py")), ids=lambda p: p.name)
def test_nets_see_tensors_only(path):
    names = imported(path)
    strangers = {name.partition(".")[0] for name in names} - NET_IMPORTS
    assert not strangers, f"{path.name} imports {sorted(strangers)}"
    above = [n for n in names if n.startswith("e2etts") and not n.startswith("e2etts.nets")]
    assert not above, f"{path.name} imports {above}"


def test_the_rules_catch_a_wrong_import(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("import os\n\ndef f():\n    from e2etts.bin import main\n    return main\n")
    assert imported(bad) == {"os", "e2etts.bin", "e2etts.bin.main".rpartition(".")[0]}
    assert layer("e2etts.bin.main") > layer("e2etts.tasks.lm") > layer("e2etts.train.loop")
    assert layer("e2etts.data.batch") > layer("e2etts.audio") > layer("e2etts.nets.lm")


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_no_file_names_a_machine():
    """Absolute paths of one machine (home folders, work folders, scratch files) break elsewhere."""
    paths = re.compile(r"(?<![\w./])/(?:home/\w|root/|Users/\w|work/|mnt/\w|tmp/\w|opt/\w)")
    found = []
    for file in tracked_files():
        if file == Path(__file__):
            continue
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # not text, or removed and not yet committed
        found += [f"{file.relative_to(ROOT)}:{n}: {line.strip()[:80]}"
                  for n, line in enumerate(lines, 1) if paths.search(line)]
    assert not found, "\n".join(found)


def test_tracked_files_are_small():
    """Data, audio and weights are fetched or made, never committed."""
    large = [f"{f.relative_to(ROOT)}: {f.stat().st_size / 2**20:.1f} MiB"
             for f in tracked_files() if f.exists() and f.stat().st_size > 2**20]
    assert not large, large
