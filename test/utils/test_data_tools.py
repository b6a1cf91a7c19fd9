"""The commands for data directories: they keep their input, count what they leave out, and refuse
what is broken in one line."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from e2etts.bin.main import main
from e2etts.cli import tool
from e2etts.data.datadir import DataDir

UTILS = Path(__file__).resolve().parents[2] / "utils"
TOOLS = ("fix", "combine", "subset", "split", "copy", "summarise")
RATE = 16000


def run(monkeypatch, name: str, *arguments) -> int:
    path = UTILS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    return tool(str(path), module.__doc__, module.add_arguments, module.run)


@pytest.fixture
def call(monkeypatch):
    return lambda name, *arguments: run(monkeypatch, name, *arguments)


@pytest.fixture
def data(tmp_path):
    """Twelve utterances of a second by three speakers, in data/all, and a file e2etts ignores."""
    utts = [f"s{i % 3}-{i:02d}" for i in range(12)]
    for utt in utts:
        soundfile.write(tmp_path / f"{utt}.wav", 0.3 * np.sin(np.arange(RATE) * 0.05), RATE)
    folder = tmp_path / "data/all"
    DataDir({u: f"text {i}" for i, u in enumerate(utts)}, dict.fromkeys(utts, "en"),
            {u: u[:2] for u in utts}, {u: str(tmp_path / f"{u}.wav") for u in utts}).save(folder)
    (folder / "spk2gender").write_text("s0 f\n")
    return folder


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("name", [*(f"{t}_data_dir" for t in TOOLS), "from_csv"])
def test_help_has_examples(call, name, capsys):
    with pytest.raises(SystemExit) as e:
        call(name, "--help")
    said = capsys.readouterr().out
    assert e.value.code == 0 and f"python utils/{name}.py" in said


def outputs(data):
    out = data.parent / "out"
    return {"fix": (data, out), "combine": (out, data), "subset": (data, out, "--count", 2),
            "split": (data, out, "--part", "test=2"), "copy": (data, out), "summarise": (data,)}


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("kind", ["none", "empty", "ids", "order", "command", "utf8", "twice",
                                  "no text"])
def test_broken_input_is_one_line_and_leaves_nothing(call, data, name, kind, capsys):
    if kind == "none":
        for path in data.iterdir():
            path.unlink()
        data.rmdir()
    elif kind == "empty":
        for path in ("text", "utt2spk", "utt2lang", "wav.scp"):
            (data / path).write_text("")
    elif kind == "ids":
        (data / "utt2spk").write_text("s0-00 s0\n")
    elif kind == "order":
        lines = (data / "text").read_text().splitlines(keepends=True)
        (data / "text").write_text("".join(reversed(lines)))
    elif kind == "command":
        (data / "wav.scp").write_text("".join(f"{u} cat x |\n" for u in DataDir.load(data).utts))
    else:
        new = {"utf8": b"\xff", "twice": b"text 5\ns2-05 text 5", "no text": b""}[kind]
        (data / "text").write_bytes((data / "text").read_bytes().replace(b"text 5", new))
    status = call(f"{name}_data_dir", *outputs(data)[name])
    said = capsys.readouterr().err
    kept = {"ids": 1, "order": 12, "utf8": 11, "twice": 11, "no text": 11}.get(kind)
    if name == "fix" and kept:  # what it is for
        assert status == 0
        assert len(DataDir.load(data.parent / "out")) == kept
        return
    assert status == 2 and said.count("\n") == 1 and f"{name}_data_dir.py: error:" in said
    assert "data/all" in said and not (data.parent / "out").exists()


@pytest.mark.parametrize("name", TOOLS)
def test_files_of_other_editors_are_read(call, data, name):
    """With a byte order mark and lines that end in CR LF."""
    whole = DataDir.load(data)
    for path in data.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert DataDir.load(data) == whole
    assert call(f"{name}_data_dir", *outputs(data)[name]) == 0
    if name in ("fix", "combine", "copy"):
        assert DataDir.load(data.parent / "out") == whole


def test_audio_that_is_not_there(call, data, tmp_path, capsys):
    (tmp_path / "s1-01.wav").unlink()
    assert call("fix_data_dir", *outputs(data)["fix"]) == 0
    assert "s1-01" not in DataDir.load(data.parent / "out").utts
    assert "no such file" in (data.parent / "out/left_out.tsv").read_text()
    assert main(["validate", str(data)]) == 2
    assert "wav.scp:5: s1-01: " in capsys.readouterr().err


def test_a_list_of_utterances_of_another_editor(call, data, tmp_path):
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbfs0-00\r\n\r\ns1-01\r\n")
    out = tmp_path / "out"
    assert call("subset_data_dir", data, out, "--utts", tmp_path / "list") == 0
    assert DataDir.load(out).utts == ["s0-00", "s1-01"]


@pytest.mark.parametrize("name", ["fix", "combine", "subset", "copy"])
def test_no_input_is_written_over(call, data, name, capsys):
    before = content(data)
    arguments = [data if a == data.parent / "out" else a for a in outputs(data)[name]]
    assert call(f"{name}_data_dir", *arguments) == 2
    assert "is both input and output" in capsys.readouterr().err and content(data) == before


def test_split_does_not_write_over_its_input(call, data, capsys):
    before = content(data)
    assert call("split_data_dir", data, data.parent, "--part", "test=2", "--rest", "all") == 2
    assert "is both input and output" in capsys.readouterr().err and content(data) == before


@pytest.mark.parametrize("part, rest", [
    ("test", "train"), ("test=0", "train"), ("test=x", "train"), ("../up=2", "train"),
    ("train=2", "train"), ("test=2", "../up"), ("test=2", "")])
def test_split_refuses_a_part_it_cannot_make(call, data, part, rest):
    assert call("split_data_dir", data, data.parent, "--part", part, "--rest", rest) == 2
    assert [p.name for p in data.parent.iterdir()] == ["all"]


def test_split_and_combine_are_each_other_s_inverse(call, data, capsys):
    folder = data.parent
    assert call("split_data_dir", data, folder, "--part", "dev=2", "--part", "test=3") == 0
    said = capsys.readouterr().out
    assert f"{folder}/test: 3 utterances" in said and "not copied: spk2gender" in said
    assert call("combine_data_dir", folder / "again", *(folder / n for n in (
        "train", "dev", "test"))) == 0
    assert DataDir.load(folder / "again") == DataDir.load(data)
    assert "7 + 2 + 3 = 12" in capsys.readouterr().out
    assert call("combine_data_dir", folder / "twice", data, data) == 2


def test_subset_lists_what_it_leaves_out(call, data, tmp_path, capsys):
    (tmp_path / "list").write_text("s0-00 more\ns1-01\nother\n")
    out = tmp_path / "out"
    assert call("subset_data_dir", data, out, "--utts", tmp_path / "list", "--lang", "en") == 0
    assert DataDir.load(out).utts == ["s0-00", "s1-01"]
    rows = (out / "left_out.tsv").read_text().splitlines()
    assert len(rows) == 12 and rows[1].startswith("other\t")
    assert "11 left out" in capsys.readouterr().out
    assert call("subset_data_dir", data, out, "--speaker", "s9") == 2
    assert call("subset_data_dir", data, out, "--speaker", "s2", "--per_speaker", "2") == 0
    assert set(DataDir.load(out).utt2spk.values()) == {"s2"} and len(DataDir.load(out)) == 2


def test_fix_lists_or_converts_audio_that_does_not_fit(call, data, tmp_path, capsys):
    first, second = (tmp_path / f"{u}.wav" for u in ("s0-00", "s1-01"))
    soundfile.write(first, np.zeros((8000, 2)) + 0.1, 8000)
    second.write_bytes(b"RIFF")
    out = tmp_path / "out"
    assert call("fix_data_dir", data, out) == 0
    assert len(DataDir.load(out)) == 10
    listed = (out / "left_out.tsv").read_text()
    assert "2 channels" in listed and "8000 Hz" in listed and "s1-01\twav.scp:5\t" in listed
    assert "2 left out" not in capsys.readouterr().err
    assert call("fix_data_dir", data, out, "--wav_dir", tmp_path / "new") == 0
    fixed = DataDir.load(out)
    assert len(fixed) == 11 and fixed.wav["s0-00"] == str(tmp_path / "new/s0-00.wav")
    assert soundfile.info(fixed.wav["s0-00"]).frames == RATE
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["s0-00.wav"]
    assert soundfile.info(first).samplerate == 8000


def test_summary_counts(call, data, tmp_path, capsys):
    (tmp_path / "s1-01.wav").unlink()
    assert call("summarise_data_dir", data, "--json", tmp_path / "sum.json") == 0
    said = capsys.readouterr().out
    assert "12 utterances" in said and "unreadable (1)" in said
    numbers = json.loads((tmp_path / "sum.json").read_text())[str(data)]
    assert numbers["utterances"] == 12 and numbers["unreadable"] == 1
    assert numbers["hours"] == pytest.approx(11 / 3600)
    assert numbers["speakers"]["s1"] == {"utterances": 4, "hours": pytest.approx(3 / 3600)}


def test_from_csv_command(call, data, tmp_path, capsys):
    rows = "".join(f"{u}.wav,{t}\n" for u, t in DataDir.load(data).text.items())
    (tmp_path / "list.csv").write_text("file,text\n" + rows + "none.wav,words\n")
    out = tmp_path / "made"
    arguments = (tmp_path / "list.csv", out, "--lang", "en", "--speaker", "x", "--rate", "8000")
    assert call("from_csv", *arguments) == 0
    made = DataDir.load(out, need_wav=True)
    assert len(made) == 12 and soundfile.info(made.wav[made.utts[0]]).samplerate == 8000
    assert "1 left out" in capsys.readouterr().out
    assert call("from_csv", *arguments, "--columns", "words=3") == 2
    assert "write WHAT=COLUMN" in capsys.readouterr().err
