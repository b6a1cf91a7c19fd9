"""Docstrings use the terms of the field: no word of a private dialect."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "e2etts"
DIALECT = re.compile(r"\b(?:heard|told|said|asked)\b", re.I)

FOLDERS = sorted({path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")})


def docstrings(source: str) -> list[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source))
            if isinstance(node, kinds)]


def dialect_words(folder: str) -> Counter[str]:
    """Count by file of one folder, without its subfolders."""
    count = {path.name: sum(len(DIALECT.findall(text)) for text in
                            docstrings(path.read_text(encoding="utf-8")))
             for path in (PACKAGE / folder).glob("*.py")}
    return Counter({name: n for name, n in count.items() if n})


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_dialect_words_in_docstrings(folder):
    assert not dialect_words(folder)


def test_the_count_sees_docstrings_only():
    source = '"""What is said."""\ndef f():\n    """Told, or untold."""\n    return "heard"\n'
    assert sum(len(DIALECT.findall(text)) for text in docstrings(source)) == 2
