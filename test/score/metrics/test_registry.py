"""The list of metrics, the files beside it, and what reads it."""

import subprocess
import sys
from pathlib import Path

import pytest

from e2etts.bin.main import verb_parser
from e2etts.score import metrics
from e2etts.score.metrics.registry import DEFAULT_METRICS, REGISTRY


@pytest.mark.parametrize("name", REGISTRY)
def test_each_metric_has_its_functions(name):
    metric = REGISTRY[name]
    assert metric.name == name and callable(metric._function("score"))
    assert metric.default or callable(metric._function("summarise"))


def test_each_file_is_in_the_list():
    files = {p.stem for p in Path(metrics.__path__[0]).glob("*.py")} - {"__init__", "registry"}
    assert files == {metric.file or name for name, metric in REGISTRY.items()}


def test_help_names_each_metric():
    text = " ".join(verb_parser("score").format_help().split())
    for name, metric in REGISTRY.items():
        assert f"{name} {metric.about}" in text
    assert f"(default: {', '.join(DEFAULT_METRICS)})" in text


def test_the_list_and_the_configuration_import_no_metric():
    program = ("import sys, e2etts.score.config; "
               "print(*(m for m in sys.modules if m.startswith(('torch', 'numpy', 'e2etts.'))))")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          check=True)
    assert set(done.stdout.split()) == {
        "e2etts.errors", "e2etts.config", "e2etts.score", "e2etts.score.config",
        "e2etts.score.metrics", "e2etts.score.metrics.registry"}
