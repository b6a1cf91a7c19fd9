"""``e2etts tokens``, and training and synthesis with the tokens that it writes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from made_corpus import make_set
from safetensors.torch import load_file
from tiny_pack import save_random_stages

from e2etts.bench.batches import made_batches
from e2etts.bin.main import main
from e2etts.config import merge, read_yaml
from e2etts.data.codes import Codes
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.recipe import load_recipe

CONF = Path(__file__).resolve().parents[2] / "egs/mini/conf"
TRUNK = {"dim": 16, "layers": 1, "heads": 2, "head_dim": 8, "hidden_dim": 24}
TRAIN = {"max_steps": 2, "max_minutes": None, "batch_seconds": 6, "warmup_steps": 1, "log_every": 1,
         "workers": 0, "health": {"sampled_utts": 2}}
LEVELS, V = [4, 3, 3], 36
SPEAKERS = dict.fromkeys(  # not here
    read_yaml(CONF / "default.yaml")["stages"]["tokenizer"]["data"]["speaker_weights"])
DEFAULT = {  # the default of egs/mini in small
    "base": str(CONF / "default.yaml"),
    "corpus": {"tests": ["test"], "zero_shot": [], "sentences": [], "enrol": "enrol"},
    "audio": {"mel_bands": 8}, "text": {"phonemes": False},
    "model": {"tokenizer": {"encoder": TRUNK, "levels": LEVELS, "q_dim": 8}, "lm": {"trunk": TRUNK},
              "fm": {"trunk": TRUNK, "encoder_layers": 1}, "rm": {"trunk": TRUNK}},
    "vocoder": {"dim": 16, "layers": 1},
    "stages": {stage: {"train": TRAIN, "data": {"speaker_weights": SPEAKERS}}
               for stage in ("tokenizer", "lm", "fm", "rm", "joint")},
    "synthesis": {"candidates": 2, "prompt_clips": 2, "sampling": {"max_ratio": 1.0},
                  "solver": {"steps": 1}, "lm_speakers": {"en": "voice-0"}}}


def codes_recipe() -> dict:
    """conf/codes.yaml of egs/mini over the small default."""
    small = {"base": "default.yaml", "model": {"tokenizer": {
                 "codebook_size": V, "levels": LEVELS, "q_dim": 8}},
             "stages": {stage: {"train": TRAIN} for stage in ("lm", "fm", "rm", "joint")}}
    return merge(yaml.safe_load((CONF / "codes.yaml").read_text()), small)


SETS = {"train": 8, "dev": 3, "test": 3, "enrol": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe folder with dump/, and of the recipe default.yaml a tokenizer and a vocoder."""
    folder = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, (name, utts) in enumerate(SETS.items()):
            make_set(folder, name, utts, seed=seed)
        for name, config in (("default", DEFAULT), ("codes", codes_recipe())):
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        assert run("prepare") == 0
        save_random_stages(folder / "exp/default", load_recipe("default.yaml"),
                           Vocab.load("dump"), "tokenizer", std=0.3)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def run(verb: str, *more: str, name: str = "default") -> int:
    return main([verb, *more, "--config", f"{name}.yaml"])


def rows(folder, set_name: str, name: str = "codes") -> dict[str, np.ndarray]:
    utts = (folder / "dump" / set_name / "utt2num_frames").read_text().split()[::2]
    codes = Codes(folder / "dump" / set_name, name, utts, V)
    return {utt: codes.row(utt) for utt in utts}


def test_tokens_of_every_set_are_those_of_the_tokenizer(here, capsys):
    assert run("tokens", "--system", "tokenizer", "--name", "mine") == 0
    printed = capsys.readouterr().out.splitlines()
    section = yaml.safe_load(printed[-1].partition("model.tokenizer: ")[2])
    assert section == {"kind": "codes", "ark": "mine", "codebook_size": V, "levels": LEVELS}
    for line, (name, utts) in zip(printed, SETS.items(), strict=False):
        got = rows(here, name, "mine")
        used = len(np.unique(np.concatenate(list(got.values()))))
        assert len(got) == utts and line == (
            f"dump/{name}/mine.scp: {utts} utterances, {sum(map(len, got.values()))} tokens, "
            f"{used} of {V} codes used")
        frames = dict(x.split() for x in (here / "dump" / name / "utt2num_frames").open())
        assert {u: len(r) for u, r in got.items()} == {u: -(-int(n) // 2)
                                                       for u, n in frames.items()}
    assert used > 3
    # By the folder, and for a recipe whose tokens come from files: the same.
    assert run("tokens", "--system", "exp/default/tokenizer", name="codes") == 0
    for utt, row in rows(here, "test").items():
        assert np.array_equal(row, rows(here, "test", "mine")[utt])


@pytest.mark.parametrize(("arguments", "message"), [
    (["--system", "tokenizer", "model.tokenizer.levels=[6, 6]"],
     "tokenizer of another configuration (stored != wanted): model.tokenizer.levels"),
    (["--system", "tokenizer", "audio.mel_low_hz=50"], "audio.mel_low_hz"),
    (["--system", "vocoder"], "holds no system"), (["--system", "nowhere"], "no checkpoint here"),
    (["--system", "tokenizer", "--name", "mel"], "cannot be the name of tokens")])
def test_what_does_not_fit_is_refused(here, capsys, arguments, message):
    before = sorted(here.rglob("dump/*/*"))
    assert run("tokens", *arguments) == 2
    assert message in capsys.readouterr().err and sorted(here.rglob("dump/*/*")) == before


def test_a_recipe_on_tokens_from_files_wants_their_mels_only(here, capsys):
    source = ("--system", "exp/default/tokenizer", "--name", "other")
    others = ("model.tokenizer.codebook_size=7", "model.tokenizer.levels=null")
    assert run("tokens", *source, *others, name="codes") == 0
    vocab = json.loads((here / "dump/vocab.json").read_text())
    shutil.copytree(here / "dump", here / "scaled")
    (here / "scaled/vocab.json").write_text(json.dumps({**vocab, "mel_mean": 0.0}))
    capsys.readouterr()
    assert run("tokens", *source, "corpus.dump_dir=scaled", name="codes") == 2
    assert "mel of another configuration (stored != wanted): sizes.mel_mean" in (
        capsys.readouterr().err)


@pytest.fixture(scope="module")
def trained(folder):
    """The recipe codes.yaml trained: exp/codes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("tokens", "--system", "exp/default/tokenizer", name="codes") == 0
        shutil.copytree("exp/default/vocoder", "exp/codes/vocoder")
        order = load_recipe("codes.yaml").training_order()
        assert order == ["vocoder", "fm", "rm", "lm", "joint"]
        for stage in order[1:]:
            assert run("train", stage, name="codes") == 0
    return folder / "exp/codes"


def test_every_stage_trains_its_parts_on_the_tokens(trained):
    saved = {s: load_file(trained / s / "best/model.safetensors")
             for s in ("fm", "rm", "lm", "joint")}

    def same(part, a, b):
        return all(torch.equal(saved[a][k], v) for k, v in saved[b].items()
                   if k.startswith(f"{part}."))
    assert saved["fm"]["tokenizer.table.weight"].shape == (V, 8)
    for stage in ("rm", "lm", "joint"):
        assert same("tokenizer", "fm", stage) and same("speaker", "fm", stage)
    assert same("rm", "rm", "lm") and not same("rm", "fm", "rm")
    assert same("fm", "fm", "joint") and same("rm", "rm", "joint")
    assert not same("lm", "lm", "joint")
    for stage in saved:
        logged = [json.loads(x) for x in (trained / stage / "log.jsonl").read_text().splitlines()]
        assert any(e.get("step") == 2 for e in logged)


def test_the_system_is_heard_with_prompts_from_files(here, trained, capsys):
    assert run("synthesize", name="codes") == 0
    found = {p.parent.relative_to(trained / "wavs").as_posix():
             [json.loads(x) for x in p.read_text().splitlines()]
             for p in (trained / "wavs").rglob("manifest.jsonl")}
    assert {k: len(v) for k, v in found.items()} == {
        "recording/test": 3, "vocoded/test": 3, "copy/test": 3, "tts/test": 3, "tts_prompt/test": 2}
    tokens = rows(here, "test")
    for row in found["copy/test"]:  # as long as its tokens
        samples = soundfile.info(trained / "wavs/copy/test" / row["wav"]).frames
        assert samples == 640 * len(tokens[row["utt"]])
    used = json.loads((trained / "tokens.json").read_text())
    assert used["tokens"] == sum(map(len, rows(here, "train").values()))
    assert run("probe", "rm", name="codes") == 0
    assert run("synthesize", "--text", "red", "--out", "a.wav", name="codes") == 0
    wav = str(next((here / "wav").glob("*.wav")))
    capsys.readouterr()
    assert run("synthesize", "--text", "red", "--out", "b.wav", "--prompt", wav, "--prompt_text",
               "one", name="codes") == 2
    assert "it cannot encode a recording; encode it with the tokenizer that made them" in (
        capsys.readouterr().err)
    assert not (here / "b.wav").exists()
    assert run("tokens", name="codes") == 2
    assert "the tokens of this system come from files" in capsys.readouterr().err


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: (f / "codes.scp").unlink(), "dump/train/codes.scp: no such file"),
    (lambda f: (f / "codes.scp").write_text("voice-0-train-000 codes.ark:18\n"),
     "lacks 7 of 8 utterances")])
def test_training_without_tokens_says_how_to_get_them(here, trained, capsys, change, message):
    dump = here / "dump/train"
    kept = (dump / "codes.scp").read_text()
    change(dump)
    try:
        assert run("train", "fm", "--tag", "again", name="codes") == 2
    finally:
        (dump / "codes.scp").write_text(kept)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("override", ["score.rm_snr_db=[10]",
                                      "stages.rm.data.noise={snr_db: [5, 9]}"])
def test_noise_is_refused_as_tokens_from_files_do_not_change_with_it(here, override):
    with pytest.raises(UserError, match=f"{override.partition('=')[0]}: tokens from files do not"):
        load_recipe("codes.yaml", [override])


def test_made_batches_have_tokens(here):
    size = ["stages.lm.train.batch_seconds=30"]
    batches, _ = made_batches(load_recipe("codes.yaml", size), "lm", 2)
    for batch in batches:
        assert batch.codes.shape == (len(batch.utts), batch.mel.shape[1] // 2)
        assert int(batch.codes.min()) >= 0 and int(batch.codes.max()) == V - 1
    assert made_batches(load_recipe("default.yaml", size), "lm", 1)[0][0].codes is None
