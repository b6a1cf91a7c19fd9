"""``e2etts synthesize`` with a random system on a made corpus."""

import json

import pytest
import soundfile
import yaml
from made_corpus import make_set
from tiny_pack import save_random_stages

from e2etts.bin.main import main
from e2etts.data.datadir import DataDir
from e2etts.data.vocab import Vocab
from e2etts.recipe import load_recipe

TRUNK = {"dim": 16, "layers": 1, "heads": 2, "hidden_dim": 32}
STAGE = {"train": {"max_steps": 1}}
CONFIG = {
    "corpus": {"tests": ["test"], "sentences": ["sentences"]},
    "audio": {"mel_bands": 8}, "text": {"phonemes": False},
    "model": {"tokenizer": {"encoder": TRUNK, "q_dim": 8}, "lm": {"trunk": TRUNK},
              "fm": {"trunk": TRUNK, "encoder_layers": 1}, "rm": {"trunk": TRUNK}},
    "vocoder": {"dim": 16, "layers": 1},
    "stages": {"joint": {"task": "first_order", "weights": {"lm": 1.0}, **STAGE},
               "vocoder": {"task": "vocoder", "weights": {"mel": 1.0}, **STAGE}},
    "synthesis": {"candidates": 1, "prompt_clips": 3, "sampling": {"max_ratio": 1.0},
                  "solver": {"steps": 1}, "lm_speakers": {"en": "voice-1"}}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A recipe folder with dump/, exp/t/joint and exp/t/vocoder."""
    folder = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_set(folder, "train", 8)
        for name, seed in (("dev", 1), ("test", 2)):
            make_set(folder, name, 3, seed=seed)
        make_set(folder, "sentences", 2, seed=3, wav=False)
        (folder / "conf.yaml").write_text(yaml.safe_dump(CONFIG))
        assert run("prepare") == 0
        save_random_stages(folder / "exp/t", load_recipe("conf.yaml"), Vocab.load("dump"),
                           "joint", std=0.1)
    return folder


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def run(*arguments: str) -> int:
    return main([*arguments, "--config", "conf.yaml", "--tag", "t"])


def test_every_set_is_synthesized_with_a_manifest(here):
    assert run("synthesize") == 0
    wavs = here / "exp/t/wavs"
    rows = {path.parent.relative_to(wavs).as_posix():
            [json.loads(line) for line in path.read_text().splitlines()]
            for path in wavs.rglob("manifest.jsonl")}
    assert {name: len(found) for name, found in rows.items()} == {
        "recording/test": 3, "vocoded/test": 3, "copy/test": 3, "tts/test": 3, "tts_prompt/test": 2,
        "tts/sentences": 2}
    data = DataDir.load(here / "data/test")
    for name, found in rows.items():
        for row in found:
            path = wavs / name / row["wav"]
            assert soundfile.info(path).duration == pytest.approx(row["seconds"], abs=1e-3)
            assert all(row["speaker"] in wav for wav in row["references"])
    assert {r["utt"]: r["text"] for r in rows["tts/test"]} == data.text
    for row in rows["tts_prompt/test"]:  # of three clips, those of the prompt's speaker
        assert row["speaker"] == "voice-0" and "voice-0-train" in row["prompt"]
    used = json.loads((here / "exp/t/tokens.json").read_text())
    assert sum(used["counts"]) == used["tokens"] > 0 and 0 < used["entropy_bits"] < 10


def test_one_text_is_spoken_by_a_speaker_or_a_prompt(here, capsys):
    assert run("synthesize", "--text", "red green", "--out", "a.wav", "--speaker", "voice-1") == 0
    wav = str(next((here / "wav").glob("*.wav")))
    assert run("synthesize", "--text", "red green", "--out", "b.wav", "--prompt", wav,
               "--prompt_text", "one two") == 0
    assert min(soundfile.info(here / f"{n}.wav").frames for n in "ab") > 0
    capsys.readouterr()
    for wrong, message in (
            (["--text", "red"], "--text needs --out"),
            (["--text", "red", "--out", "c.wav", "--prompt", wav], "belong together"),
            (["--text", "red", "--out", "c.wav", "--speaker", "nobody"],
             "speaker 'nobody' has no recordings in training or enrolment; speakers: voice-0"),
            (["--text", "red", "--out", "c.wav", "--lang", "fr"],
             "no speaker of language 'fr' in training or enrolment: name one with --speaker, or a "
             "language of en"), (["--style", "sad"], "--style belongs to --text")):
        assert run("synthesize", *wrong) == 2
        assert message in capsys.readouterr().err
    assert not (here / "c.wav").exists()
