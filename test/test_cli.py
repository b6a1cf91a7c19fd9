"""The command: dispatch, help, exit statuses; and packing and unpacking."""

import errno
import hashlib
import importlib
import io
import json
import os
import subprocess
import sys
import tarfile
import types

import numpy as np
import pytest
from tiny_pack import write_pack

from e2etts.audio import load_wav, save_wav
from e2etts.bin import main as cli
from e2etts.bin import pack
from e2etts.errors import UserError


@pytest.fixture
def toy_verb(monkeypatch):
    """A verb whose behaviour a test chooses; keeps the arguments it was run with."""
    verb = types.SimpleNamespace(__doc__="A toy.", action=lambda: None, args=None)

    def add_arguments(parser):
        parser.add_argument("stage")
        cli.add_recipe_arguments(parser)

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


def test_unknown_verb(capsys):
    assert cli.main(["trian"]) == 2
    assert "unknown verb 'trian'" in capsys.readouterr().err


def test_help_names_every_verb_and_loads_no_torch():
    code = ("import sys; from e2etts.bin.main import main; main(['--help']); "
            "assert 'torch' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in cli.VERBS)


@pytest.mark.parametrize("given, found", [
    ({}, (cli.SPINS, cli.PRIMITIVES)),
    ({"OMP_WAIT_POLICY": "ACTIVE"}, (None, cli.PRIMITIVES)),
    ({"GOMP_SPINCOUNT": "7", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8"}, ("7", "8")),
])
def test_libraries_get_defaults_before_torch_and_users_have_the_last_word(given, found):
    names = ("GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")
    env = {k: v for k, v in os.environ.items() if k not in (*names, "OMP_WAIT_POLICY")} | given
    code = ("import json, os, sys; from e2etts.bin import main\n"
            "def run(verb): assert 'torch' not in sys.modules; raise SystemExit(\n"
            f"    json.dumps([os.environ.get(n) for n in {names}]))\n"
            "main.verb_parser = run; main.main(['train'])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert json.loads(done.stderr) == list(found)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0
    assert f"  e2etts {verb} " in capsys.readouterr().out


# Packing

@pytest.fixture
def trained(tmp_path):
    """The files of a finished run: exp, dump, data."""
    exp, dump, data = tmp_path / "exp" / "toy", tmp_path / "dump", tmp_path / "data"
    for path, text in {
        exp / "joint" / "config.yaml": "seed: 1\n",
        exp / "joint" / "best" / "model.safetensors": "weights",
        exp / "joint" / "best" / "meta.json": "{}",
        exp / "vocoder" / "best" / "model.safetensors": "vocoder weights",
        exp / "vocoder" / "best" / "meta.json": "{}",
        exp / "results.json": "{}",
        dump / "text.model": "pieces",
        dump / "vocab.json": '{"languages": ["en", "ru"], "speakers": ["anna"]}',
        data / "wav" / "ATTRIBUTION": "Recordings by a kind person, CC BY-SA 3.0.",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return exp, dump, data


def test_pack_gathers_all_with_checksums(trained):
    exp, dump, data = trained
    folder = pack.pack(exp, dump, data)
    names = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert names == {"README.md", "SHA256SUMS", "config.yaml", "text.model", "vocab.json",
                     "results.json", "joint/model.safetensors", "joint/meta.json",
                     "vocoder/model.safetensors", "vocoder/meta.json"}
    card = (folder / "README.md").read_text()
    assert "CC BY-SA 3.0" in card and "en, ru" in card and "anna" in card
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder)
    assert done.returncode == 0


def test_the_example_of_a_packs_page_speaks(trained, tmp_path, monkeypatch):
    write_pack(tmp_path / "dump")
    card = pack.model_card(*trained[:2], [])
    monkeypatch.chdir(tmp_path / "dump")
    save_wav("voice.wav", np.sin(np.arange(16000) / 20), 16000)
    exec(card.partition("```python")[2].partition("```")[0], {})
    assert len(load_wav("speech.wav", 16000)) > 0


def test_pack_names_the_missing_stage_and_leaves_nothing(trained):
    exp, dump, data = trained
    (exp / "vocoder" / "best" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"vocoder/best/model.safetensors: missing: run stage 3"):
        pack.pack(exp, dump, data)
    assert not list(exp.glob("pack*"))


def test_archive_round_trip_is_the_same_bytes_each_time(trained, tmp_path):
    folder = pack.pack(*trained)
    first, second = tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"
    pack.archive(folder, first)
    pack.archive(pack.pack(*trained), second)
    assert first.read_bytes() == second.read_bytes()
    pack.unpack(first, tmp_path / "there")
    for file in folder.rglob("*"):
        if file.is_file():
            assert (tmp_path / "there" / file.relative_to(folder)).read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        pack.unpack(first, tmp_path / "there")


def forged(path, entries):
    with tarfile.open(path, "w:gz") as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def kind(name, type_, target):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = type_, target
    return entry


@pytest.mark.parametrize("entry", [
    tarfile.TarInfo("../escaped"), tarfile.TarInfo("joint/../../escaped"),
    tarfile.TarInfo("/escaped"), tarfile.TarInfo("a\\..\\escaped"), tarfile.TarInfo("."),
    kind("link", tarfile.SYMTYPE, "/etc/passwd"), kind("hard", tarfile.LNKTYPE, "config.yaml"),
    kind("pipe", tarfile.FIFOTYPE, ""), kind("device", tarfile.CHRTYPE, ""),
], ids=lambda e: e.name)
def test_unpack_refuses_what_leaves_the_folder(tmp_path, entry):
    source = forged(tmp_path / "bad.tar.gz", [(entry, b"")])
    with pytest.raises(UserError, match="not a plain file inside the archive"):
        pack.unpack(source, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.tar.gz"]


def test_unpack_refuses_changed_extra_and_repeated_files(tmp_path):
    line = f"{hashlib.sha256(b'one').hexdigest()}  a\n".encode()
    sums = (tarfile.TarInfo(pack.SUMS), line)
    one, two = (tarfile.TarInfo("a"), b"one"), (tarfile.TarInfo("a"), b"two")
    extra = (tarfile.TarInfo("b"), b"x")
    for number, (entries, words) in enumerate([
            ([one], "no SHA256SUMS"), ([two, sums], "differs from its checksum"),
            ([one, extra, sums], "b is only in the archive"), ([sums], "a is only in SHA256SUMS"),
            ([one, one, sums], "occurs twice")]):
        source = forged(tmp_path / f"{number}.tar.gz", entries)
        with pytest.raises(UserError, match=words):
            pack.unpack(source, tmp_path / "out")
        assert not list(tmp_path.glob("out*"))
    pack.unpack(forged(tmp_path / "good.tar.gz", [one, sums]), tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"one"


@pytest.mark.parametrize("content", [b"", b"not gzip", None], ids=["empty", "text", "missing"])
def test_unpack_of_no_archive(tmp_path, content):
    source = tmp_path / "x.tar.gz"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(UserError, match="not a whole .tar.gz archive"):
        pack.unpack(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unpack_of_a_cut_archive(trained, tmp_path):
    whole = tmp_path / "whole.tar.gz"
    pack.archive(pack.pack(*trained), whole)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError):
        pack.unpack(cut, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
