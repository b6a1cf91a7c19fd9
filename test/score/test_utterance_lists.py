"""Utterance lists in the forms of seed-tts-eval."""

import pytest

from e2etts.errors import UserError
from e2etts.score.utterance_lists import read_list


def test_list_forms(tmp_path):
    (tmp_path / "m.lst").write_text("a|said|p.wav|text one\nb|said|/x/p.wav|two|g.wav\n"
                                    "c.wav|three|p.wav\n\nd|four\n")
    a, b, c, d = read_list(tmp_path / "m.lst")
    assert (a.utt, a.prompt_text, a.prompt, a.text, a.target) == \
        ("a", "said", tmp_path / "p.wav", "text one", None)
    assert str(b.prompt) == "/x/p.wav" and b.target == tmp_path / "g.wav"
    assert (c.utt, c.text, c.prompt) == ("c", "three", tmp_path / "p.wav")
    assert (d.utt, d.text, d.prompt, d.origin) == ("d", "four", None, f"{tmp_path}/m.lst:5")


@pytest.mark.parametrize(("line", "what"), [
    ("x", "1 fields"), ("a|b|c|d|e|f", "6 fields"), ("|text", "empty"), ("x| ", "empty"),
    ("a|again", "'a' occurs twice")])
def test_broken_lists_are_named(tmp_path, line, what):
    (tmp_path / "m.lst").write_text(f"a|text\n{line}\n")
    with pytest.raises(UserError, match="m.lst:2: ") as e:
        read_list(tmp_path / "m.lst")
    assert what in str(e.value)
