"""Packing a trained system, and unpacking archives that may come from anyone."""

import hashlib
import io
import subprocess
import tarfile

import numpy as np
import pytest
from tiny_pack import write_pack

from e2etts.audio import load_wav, save_wav
from e2etts.errors import UserError
from e2etts.stages import packs


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
    folder = packs.make_pack(exp, dump, data)
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
    card = packs.model_card(*trained[:2], [])
    monkeypatch.chdir(tmp_path / "dump")
    save_wav("voice.wav", np.sin(np.arange(16000) / 20), 16000)
    exec(card.partition("```python")[2].partition("```")[0], {})
    assert len(load_wav("speech.wav", 16000)) > 0


def test_pack_names_the_missing_stage_and_leaves_nothing(trained):
    exp, dump, data = trained
    (exp / "vocoder" / "best" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"vocoder/best/model.safetensors: missing: run stage 3"):
        packs.make_pack(exp, dump, data)
    assert not list(exp.glob("pack*"))


def test_archive_round_trip_is_the_same_bytes_each_time(trained, tmp_path):
    folder = packs.make_pack(*trained)
    first, second = tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"
    packs.archive_pack(folder, first)
    packs.archive_pack(packs.make_pack(*trained), second)
    assert first.read_bytes() == second.read_bytes()
    packs.unpack_archive(first, tmp_path / "there")
    for file in folder.rglob("*"):
        if file.is_file():
            assert (tmp_path / "there" / file.relative_to(folder)).read_bytes() == file.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        packs.unpack_archive(first, tmp_path / "there")


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
        packs.unpack_archive(source, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.tar.gz"]


def test_unpack_refuses_changed_extra_and_repeated_files(tmp_path):
    line = f"{hashlib.sha256(b'one').hexdigest()}  a\n".encode()
    sums = (tarfile.TarInfo(packs.SUMS), line)
    one, two = (tarfile.TarInfo("a"), b"one"), (tarfile.TarInfo("a"), b"two")
    extra = (tarfile.TarInfo("b"), b"x")
    for number, (entries, words) in enumerate([
            ([one], "no SHA256SUMS"), ([two, sums], "differs from its checksum"),
            ([one, extra, sums], "b is only in the archive"), ([sums], "a is only in SHA256SUMS"),
            ([one, one, sums], "occurs twice")]):
        source = forged(tmp_path / f"{number}.tar.gz", entries)
        with pytest.raises(UserError, match=words):
            packs.unpack_archive(source, tmp_path / "out")
        assert not list(tmp_path.glob("out*"))
    packs.unpack_archive(forged(tmp_path / "good.tar.gz", [one, sums]), tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"one"


@pytest.mark.parametrize("content", [b"", b"not gzip", None], ids=["empty", "text", "missing"])
def test_unpack_of_no_archive(tmp_path, content):
    source = tmp_path / "x.tar.gz"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(UserError, match="not a whole .tar.gz archive"):
        packs.unpack_archive(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unpack_of_a_cut_archive(trained, tmp_path):
    whole = tmp_path / "whole.tar.gz"
    packs.archive_pack(packs.make_pack(*trained), whole)
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(UserError):
        packs.unpack_archive(cut, tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
