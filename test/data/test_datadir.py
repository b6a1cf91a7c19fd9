"""Kaldi-style directories: invalid input is rejected; output is sorted and atomic."""

import os

import pytest

from e2etts.data.datadir import DataDir, read_table, write_table
from e2etts.errors import UserError


def make(folder, wav=True):
    data = DataDir({"a": "один", "b": "two words"}, {"a": "ru", "b": "en"}, {"a": "s", "b": "s"},
                   {"a": "x/a.wav", "b": "/y/b c.wav"} if wav else {})
    data.save(folder)
    return data


def test_save_and_load_round_trip(tmp_path):
    data = make(tmp_path / "set")
    assert DataDir.load(tmp_path / "set", need_wav=True) == data
    assert data.utts == ["a", "b"] and len(data) == 2
    assert data.subset(["b"]).wav == {"b": "/y/b c.wav"}


def test_a_text_only_set_needs_no_wav(tmp_path):
    make(tmp_path, wav=False)
    assert DataDir.load(tmp_path).wav == {}
    with pytest.raises(UserError, match="wav.scp: cannot read"):
        DataDir.load(tmp_path, need_wav=True)


def test_saving_removes_a_table_that_is_no_longer_there(tmp_path):
    make(tmp_path)
    make(tmp_path, wav=False)
    assert not (tmp_path / "wav.scp").exists()


def test_tables_are_sorted_by_bytes_and_leave_no_temporary_file(tmp_path):
    write_table(tmp_path / "t", {"b": "2", "a-1": "x", "a": "1", "é": "3"})
    assert (tmp_path / "t").read_text(encoding="utf-8") == "a 1\na-1 x\nb 2\né 3\n"
    assert os.listdir(tmp_path) == ["t"]


@pytest.mark.parametrize("content, message", [
    (b"a 1\na 2\n", "t:2: id 'a' occurs twice"),
    (b"b 1\na 2\n", "t:2: 'a' comes after 'b'"),
    (b"a 1\nb\n", "t:2: expected 'id value'"),
    (b"a 1\n\nb 2\n", "t:2: expected 'id value'"),
    (b"a 1\nb \xff\n", "t:2: not UTF-8"),
])
def test_a_broken_table_is_refused_with_its_line(tmp_path, content, message):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / "t")


def test_tabs_separate_like_spaces_and_an_empty_file_is_an_empty_table(tmp_path):
    (tmp_path / "t").write_bytes(b"a\tone two\n")
    assert read_table(tmp_path / "t") == {"a": "one two"}
    (tmp_path / "t").write_bytes(b"")
    assert read_table(tmp_path / "t") == {}


@pytest.mark.parametrize("table", [{"a b": "x"}, {"": "x"}, {"a": " "}, {"a": "x\ny"}])
def test_invalid_ids_and_values_are_not_written(tmp_path, table):
    with pytest.raises(UserError):
        write_table(tmp_path / "t", table)
    assert not os.listdir(tmp_path)


def test_an_unwritable_directory_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_table(tmp_path / "file" / "t", {"a": "1"})


@pytest.mark.parametrize("name, content, message", [
    ("utt2spk", "a s\n", "utt2spk: 'b' of text is missing"),
    ("utt2lang", "a en\nb en\nc en\n", "utt2lang: 'c' is not in text"),
    ("wav.scp", "a x.wav\nb sox in.wav -t wav - |\n", "wav.scp:2: 'b' is a command"),
    ("wav.scp", "a |cat x.wav\nb x.wav\n", "wav.scp:1: 'a' is a command"),
    ("utt2emo", "z happy\n", "utt2emo: 'z' is not in text"),
])
def test_inconsistent_files_are_rejected(tmp_path, name, content, message):
    make(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        DataDir.load(tmp_path)


def test_emotions_may_cover_some_utterances(tmp_path):
    make(tmp_path)
    (tmp_path / "utt2emo").write_text("b happy\n")
    assert DataDir.load(tmp_path).utt2emo == {"b": "happy"}


def test_missing_and_empty_directories(tmp_path):
    with pytest.raises(UserError, match="no such data directory"):
        DataDir.load(tmp_path / "none")
    for name in ("text", "utt2lang", "utt2spk"):
        (tmp_path / name).write_text("")
    with pytest.raises(UserError, match="no utterances"):
        DataDir.load(tmp_path)
