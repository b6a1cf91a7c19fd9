"""Recipes run in a copy of their folder."""

import importlib.util
import shutil
from pathlib import Path

from e2etts.data.corpus import run

ROOT = Path(__file__).resolve().parents[2]


def copied(name: str, folder: Path) -> Path:
    """A copy of egs/<name> below ``folder``, beside what it builds on."""
    for part in (f"egs/{name}", "egs/conf", "utils"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns(
            "data*", "dump*", "exp", "downloads", "__pycache__"))
    return folder / "egs" / name


def module(name: str):
    """local/prepare_data.py of a recipe."""
    path = ROOT / "egs" / name / "local/prepare_data.py"
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def prepare(name: str, settings: str, *argv: str) -> int:
    """Run stage 1 of a recipe in the current folder, a copy of it; ``settings``: its class."""
    recipe = module(name)
    return run(recipe.__doc__, getattr(recipe, settings), recipe.prepare,
               [*argv, "corpus_data.workers=1"])
