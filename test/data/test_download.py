import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from served import Handler

from e2etts.audio import AudioConfig
from e2etts.data.corpus import CorpusData, Job
from e2etts.data.download import Archive, fetch_archive, unpack
from e2etts.errors import UserError


def tar(members, mode="w:gz", **kind):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in kind.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def test_a_broken_download_is_resumed(server, tmp_path):
    Handler.content, Handler.limit = bytes(range(256)) * 1000, 100_000
    archive = Archive(f"{server}/a.bin", hashlib.md5(Handler.content).hexdigest())
    assert fetch_archive(archive, tmp_path).read_bytes() == Handler.content
    assert Handler.asked == [0, 100_000, 200_000]


def test_a_run_that_ended_before_the_final_rename(server, tmp_path):
    Handler.content = b"all of it"
    (tmp_path / "a.bin.part").write_bytes(Handler.content)
    path = fetch_archive(Archive(f"{server}/a.bin"), tmp_path)
    assert path.read_bytes() == Handler.content and Handler.asked == [9]


def test_a_wrong_checksum_removes_the_file_and_a_right_one_is_read_once(server, tmp_path):
    Handler.content = b"damaged on the way"
    archive = Archive(f"{server}/a.bin", hashlib.md5(b"as published").hexdigest())
    with pytest.raises(UserError, match=r"a.bin: MD5 .* published .*run again"):
        fetch_archive(archive, tmp_path)
    assert not (tmp_path / "a.bin").exists()
    Handler.content = b"as published"
    path = fetch_archive(archive, tmp_path)
    path.write_bytes(b"not looked at again")
    assert fetch_archive(archive, tmp_path) == path and len(Handler.asked) == 2


def test_a_connection_error_names_the_address_and_the_remedy(tmp_path):
    with pytest.raises(UserError, match="127.0.0.1:1/a.tar.*run again.*--corpus_dir"):
        fetch_archive(Archive("http://127.0.0.1:1/a.tar"), tmp_path)


def test_a_corpus_is_fetched_and_unpacked_once(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Handler.content = tar({"Corpus/a.txt": b"a", "Corpus/b/c.txt": b"c"})
    job = Job(CorpusData(), AudioConfig(), Path("data"))
    archive = Archive(f"{server}/c.tgz", hashlib.md5(Handler.content).hexdigest())
    folder = job.corpus("Corpus", [archive])
    assert (folder / "b/c.txt").read_text() == "c" and str(folder) == "downloads/Corpus"
    (folder / "a.txt").write_text("mine now")
    (tmp_path / "downloads/c.tgz").unlink()  # it has served
    assert job.corpus("Corpus", [archive]) == folder and len(Handler.asked) == 1
    assert (folder / "a.txt").read_text() == "mine now"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tars_of_every_compression(tmp_path, mode):
    path = tmp_path / "a.tar"
    path.write_bytes(tar({"x/y.txt": b"yes"}, mode))
    unpack(path, tmp_path / "out")
    assert (tmp_path / "out/x/y.txt").read_bytes() == b"yes"


def test_zips(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x/y.txt", "yes")
        archive.mkdir("empty") if hasattr(archive, "mkdir") else None
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*.txt")] == ["y.txt"]


@pytest.mark.parametrize(("name", "kind", "words"), [
    ("../up.txt", {}, "lies outside"), ("/top.txt", {}, "lies outside"),
    ("a\\b.txt", {}, "lies outside"),
    ("link", {"type": tarfile.SYMTYPE, "linkname": "/etc"}, "link or device"),
    ("pipe", {"type": tarfile.FIFOTYPE}, "link or device")])
def test_unsafe_archive_entries_are_rejected(tmp_path, name, kind, words):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(tar({name: b""}, **kind))
    with pytest.raises(UserError, match=words):
        unpack(path, tmp_path / "out/in")
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and p != path]


@pytest.mark.parametrize("cut", [-20, 200])
def test_a_damaged_archive_is_named_and_not_marked_as_unpacked(tmp_path, cut):
    path = tmp_path / "a.tar.gz"
    noise = b"".join(hashlib.md5(bytes([n])).digest() for n in range(200))
    path.write_bytes(tar({"a": noise, "b": noise})[:cut])
    for _ in range(2):
        with pytest.raises(UserError, match="a.tar.gz: damaged archive"):
            unpack(path, tmp_path / "out")
