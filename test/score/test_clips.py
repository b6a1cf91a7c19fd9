import pytest
from made_up import add_set, write_manifest

from e2etts.errors import UserError
from e2etts.score.clips import read_clips

GOOD = {"utt": "u1", "wav": "u1.wav", "text": "hello", "lang": "en"}


def test_order_and_paths(tmp_path):
    for system in ("tts", "recording"):
        write_manifest(tmp_path / system / "test_en",
                       [{**GOOD, "references": ["../r.wav"], "prompt": "p.wav"}])
    clips = read_clips(tmp_path)
    assert [c.system for c in clips] == ["recording", "tts"]
    assert clips[0].wav == tmp_path / "recording/test_en/u1.wav"
    assert clips[0].references[0].resolve() == (tmp_path / "recording/r.wav").resolve()
    assert clips[0].origin == f"{tmp_path}/recording/test_en/manifest.jsonl:1"


def test_nothing_to_score(tmp_path):
    with pytest.raises(UserError, match="run stage 9"):
        read_clips(tmp_path / "wavs")


@pytest.mark.parametrize(("line", "what"), [
    ('{"utt": "u2",', "not JSON"), ("[1]", "expected an object"),
    ('{"utt": "u2", "wav": "b.wav", "lang": "en"}', "no 'text'"),
    ('{"utt": "u2", "wav": 3, "text": "x", "lang": "en"}', "'wav' is 3"),
    ('{"utt": "u2", "wav": "b.wav", "text": "  ", "lang": "en"}', "'u2' has an empty reference"),
    ('{"utt": "u1", "wav": "b.wav", "text": "x", "lang": "en"}', "'u1' occurs twice"),
    ('{"utt": "u2", "wav": "b.wav", "text": "x", "lang": "en", "references": [1]}', "paths"),
])
def test_broken_lines_are_named(tmp_path, line, what):
    path = write_manifest(tmp_path / "tts" / "test_en", [GOOD])
    path.write_text(path.read_text() + "\n" + line + "\n")
    with pytest.raises(UserError) as e:
        read_clips(tmp_path)
    assert str(e.value).startswith(f"{path}:3: ") and what in str(e.value)


def test_bytes_that_are_not_utf8_and_empty_manifests(tmp_path):
    path = add_set(tmp_path, "tts", "test_en", {"u1": "a"})
    path.write_bytes(path.read_bytes() + b'{"utt": "\xff"}\n')
    with pytest.raises(UserError, match=r"manifest.jsonl:2: not UTF-8"):
        read_clips(tmp_path / "wavs")
    path.write_text("")
    with pytest.raises(UserError, match="no clips"):
        read_clips(tmp_path / "wavs")
