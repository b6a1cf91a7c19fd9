"""The command: dispatch, help, exit statuses."""

import errno
import importlib
import json
import os
import subprocess
import sys
import types

import pytest

from e2etts.bin import main as cli
from e2etts.cli import add_recipe_arguments
from e2etts.errors import UserError


@pytest.fixture
def toy_verb(monkeypatch):
    """A verb whose behaviour a test chooses; keeps the arguments it was run with."""
    verb = types.SimpleNamespace(__doc__="A toy.", action=lambda: None, args=None)

    def add_arguments(parser):
        parser.add_argument("stage")
        add_recipe_arguments(parser)

    def run(args):
        verb.args = args
        verb.action()

    verb.add_arguments, verb.run = add_arguments, run
    real = importlib.import_module
    monkeypatch.setattr(cli.importlib, "import_module",
                        lambda name: verb if name == "e2etts.bin.train" else real(name))
    return verb


def raising(error):
    def action():
        raise error
    return action


@pytest.mark.parametrize("argv", [
    ["lm", "--config", "c.yaml", "a.b=1", "x=2"],
    ["lm", "a.b=1", "--config", "c.yaml", "x=2"],
    ["--config", "c.yaml", "lm", "a.b=1", "x=2"],
])
def test_overrides_stand_anywhere(toy_verb, argv):
    assert cli.main(["train", *argv]) == 0
    args = toy_verb.args
    assert (args.stage, args.config, args.overrides) == ("lm", "c.yaml", ["a.b=1", "x=2"])


@pytest.mark.parametrize("error, words", [
    (UserError("data/train/text:3: empty text: write one"), "data/train/text:3: empty text"),
    (OSError(errno.ENOSPC, "No space left on device", "out.ark"), "out.ark: no disk space left"),
    (PermissionError(errno.EACCES, "Permission denied", "exp"), "exp: permission denied"),
    (MemoryError(), "out of memory"),
    (RuntimeError("CUDA out of memory. Tried to allocate"), "out of memory"),
    (ModuleNotFoundError("No module named 'faster_whisper'", name="faster_whisper"),
     "'faster_whisper' is missing"),
])
def test_outside_errors_are_one_line_and_status_2(toy_verb, capsys, error, words):
    toy_verb.action = raising(error)
    assert cli.main(["train", "lm"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("e2etts train: error: ") and said.count("\n") == 1
    assert words in said


def test_interruption_is_status_130(toy_verb):
    toy_verb.action = raising(KeyboardInterrupt())
    assert cli.main(["train", "lm"]) == 130


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shape mismatch"),
                                   ModuleNotFoundError("No", name="e2etts.nets.gone")])
def test_defects_keep_their_traceback(toy_verb, error):
    toy_verb.action = raising(error)
    with pytest.raises(type(error)):
        cli.main(["train", "lm"])


@pytest.mark.parametrize("verb, words", [
    ("trian", "unknown verb 'trian'; nearest: 'train'"),
    ("synthesise", "unknown verb 'synthesise'; nearest: 'synthesize'"),
    ("xyzzy", "unknown verb 'xyzzy'; one of: validate, "),
])
def test_unknown_verb_names_the_nearest(capsys, verb, words):
    assert cli.main([verb]) == 2
    assert words in capsys.readouterr().err


def without_torch(*argv):
    """Output of the command in a process of its own, which must not import torch."""
    code = ("import sys; from e2etts.bin.main import main\n"
            "try: main(sys.argv[1:])\n"
            "finally: assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_names_every_verb_and_loads_no_torch():
    said = without_torch("--help")
    assert all(verb in said for verb in cli.VERBS)


HELP_LOADS_TORCH = {"score", "report", "score-rm"}  # their modules import it at the top


@pytest.mark.parametrize("verb", sorted(cli.VERBS.keys() - HELP_LOADS_TORCH))
def test_help_of_a_verb_loads_no_torch(verb):
    assert f"usage: e2etts {verb}" in without_torch(verb, "--help")


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"  e2etts {verb} " in capsys.readouterr().out


@pytest.mark.parametrize("given, found", [
    ({}, (cli.SPINS, cli.PRIMITIVES)),
    ({"OMP_WAIT_POLICY": "ACTIVE"}, (None, cli.PRIMITIVES)),
    ({"GOMP_SPINCOUNT": "7", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8"}, ("7", "8")),
])
def test_libraries_get_defaults_before_torch_and_settings_of_the_user_stay(given, found):
    names = ("GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    env = {k: v for k, v in os.environ.items() if k not in (*names, "OMP_WAIT_POLICY")} | given
    code = ("import json, os, sys; from e2etts.bin import main\n"
            "def run(verb): assert 'torch' not in sys.modules; raise SystemExit(\n"
            f"    json.dumps([os.environ.get(n) for n in {names}]))\n"
            "main.verb_parser = run; main.main(['train'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert json.loads(done.stderr) == list(found)
