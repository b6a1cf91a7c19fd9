"""Stages whose tokens, and text positions, are computed once and read from files."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from made_corpus import make_set
from safetensors.torch import load_file, save_file
from tiny_pack import save_random_stages

from e2etts.bin.main import main
from e2etts.config import merge, read_yaml
from e2etts.data.codes import Codes, Rows
from e2etts.data.dataset import MelDataset
from e2etts.data.loader import training_stream
from e2etts.data.sampler import Element
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.infer.pipeline import load_system
from e2etts.nets.reward import RM
from e2etts.nets.tokenizers.fsq import FSQTokenizer
from e2etts.recipe import load_recipe
from e2etts.stages.token_cache import TokenCache
from e2etts.train.step import Stepper

CONF = Path(__file__).resolve().parents[2] / "egs/mini/conf"
TRUNK = {"dim": 16, "layers": 1, "heads": 2, "head_dim": 8, "hidden_dim": 24}
SPEAKERS = dict.fromkeys(  # not here
    read_yaml(CONF / "default.yaml")["stages"]["tokenizer"]["data"]["speaker_weights"])
STAGES = ("lm", "fm", "rm", "joint")
SMALL = {  # the default of egs/mini in small, its later stages cached
    "base": str(CONF / "default.yaml"), "corpus": {"tests": [], "zero_shot": [], "sentences": []},
    "audio": {"mel_bands": 8}, "text": {"phonemes": False},
    "model": {"tokenizer": {"encoder": TRUNK, "levels": [4, 3, 3], "q_dim": 8},
              "lm": {"trunk": TRUNK}, "fm": {"trunk": TRUNK, "encoder_layers": 1},
              "rm": {"trunk": TRUNK}},
    "vocoder": {"dim": 16, "layers": 1},
    "stages": {"tokenizer": {"data": {"speaker_weights": SPEAKERS}}, **{stage: {
        **({"init": "tokenizer"} if stage != "joint" else {}),
        "data": {"speaker_weights": SPEAKERS, "cached_tokens": True, "concat_probability": 0.0},
        "train": {"max_steps": 3, "max_minutes": None, "batch_seconds": 6, "warmup_steps": 1,
                  "log_every": 1, "workers": 0, "precision": "no", "validations": 1,
                  "health": {"sampled_utts": 2}}} for stage in STAGES}}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recipe folder with dump/ and a tokenizer."""
    folder = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, (name, utts) in enumerate({"train": 12, "dev": 3}.items()):
            make_set(folder, name, utts, seed=seed)
        (folder / "small.yaml").write_text(yaml.safe_dump(SMALL, sort_keys=False))
        assert main(["prepare", "--config", "small.yaml"]) == 0
        save_random_stages(folder / "exp/t", load_recipe("small.yaml"), Vocab.load("dump"),
                           "tokenizer", std=0.3)
    return folder


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(stage: str, *more: str, tag: str = "t") -> int:
    return main(["train", stage, *more, "--config", "small.yaml", "--tag", tag])


def new_tag(tag: str) -> None:
    shutil.copytree("exp/t/tokenizer", f"exp/{tag}/tokenizer")


def weights(stage: str, tag: str = "t") -> dict[str, torch.Tensor]:
    return load_file(f"exp/{tag}/{stage}/last/model.safetensors")


def log(stage: str, tag: str = "t") -> list[dict]:
    return [json.loads(x) for x in Path(f"exp/{tag}/{stage}/log.jsonl").read_text().splitlines()]


def files(tag: str = "t") -> dict[str, int]:
    """Kind of each file of the cache -> when it was written."""
    return {p.name: p.stat().st_mtime_ns for p in Path(f"exp/{tag}/cache").iterdir()}


def kinds(names) -> list[str]:
    return sorted("-".join(n.split("-")[:2]) for n in names if n.endswith(".scp"))


def plain(stage: str) -> str:
    return f"stages.{stage}.data.cached_tokens=false"


@pytest.mark.parametrize("stage", ["lm", "fm", "rm"])
def test_a_cached_stage_learns_what_an_uncached_one_does(here, stage):
    new_tag("plain")
    assert train(stage) == 0 and train(stage, plain(stage), tag="plain") == 0
    assert not (here / "exp/plain/cache").exists()
    for a, b in zip(log(stage), log(stage, "plain"), strict=True):
        both = (a.keys() & b.keys()) - {"seconds", "audio_seconds_per_second", "split"}
        assert {"loss", "token_entropy_bits"} <= both or "loss" not in a
        assert {k: a[k] for k in both} == pytest.approx({k: b[k] for k in both}, abs=1e-4)
    cached, uncached = weights(stage), weights(stage, "plain")
    assert any(not torch.equal(v, load_file("exp/t/tokenizer/best/model.safetensors")[k])
               for k, v in cached.items())
    for name, value in cached.items():
        torch.testing.assert_close(value, uncached[name], atol=1e-4, rtol=1e-3)


def test_nothing_is_encoded_aligned_or_read_twice(here, monkeypatch):
    assert train("rm") == 0
    assert kinds(files()) == ["dev-tokens", "train-tokens"]
    seen = []
    align, encode = RM.align, FSQTokenizer.forward
    monkeypatch.setattr(RM, "align", lambda *a: seen.append("align") or align(*a))
    monkeypatch.setattr(FSQTokenizer, "forward", lambda *a: seen.append("encode") or encode(*a))
    before = files()
    assert train("lm") == 0
    assert set(seen) == {"align"} and kinds(files()) == [
        "dev-positions", "dev-tokens", "train-positions", "train-tokens"]
    assert before.items() <= files().items()
    seen.clear()
    assert train("fm") == 0 and train("joint", "stages.joint.init.rm=tokenizer") == 0
    assert not seen and len(kinds(files())) == 4
    assert train("joint", "stages.joint.train.max_steps=4") == 2  # another start
    new_tag("u")
    for stage in ("lm", "fm", "rm"):
        shutil.copytree(f"exp/t/{stage}", f"exp/u/{stage}")
    assert train("joint", tag="u") == 0  # the RM has learned since
    assert seen.count("encode") and seen.count("align")


@pytest.mark.parametrize(("stage", "reads"), [("lm", False), ("rm", False), ("fm", True)])
def test_mels_are_read_where_a_loss_needs_them(here, monkeypatch, stage, reads):
    assert train(stage) == 0
    count, one = [], MelDataset._mel
    monkeypatch.setattr(MelDataset, "_mel", lambda self, i: count.append(i) or one(self, i))
    new_tag("again")
    shutil.copytree("exp/t/cache", "exp/again/cache")
    seen, step = [], Stepper.step
    monkeypatch.setattr(Stepper, "step", lambda self, batches, *a, **k: (
        seen.extend(batches), step(self, batches, *a, **k))[1])
    assert train(stage, tag="again") == 0
    assert all((b.mel is not None) == reads for b in seen)
    rows = sum(len(b.utts) for b in seen) + 3 * 1  # validated once
    extra = 3 if stage == "lm" else 0  # and sampled from before training
    assert len(count) == (rows + extra) * (1 + reads)  # the speaker reference is always read


def cache_of(tag: str = "t", stage: str = "lm", folder: str | None = None,
             accelerator=None) -> TokenCache:
    recipe = load_recipe("small.yaml")
    system = load_system(f"exp/{tag}/tokenizer/best")[0]
    accelerator = accelerator or SimpleNamespace(
        process_index=0, num_processes=1, is_main_process=True, device="cpu",
        wait_for_everyone=lambda: None)
    return TokenCache(recipe, stage, system, Path(folder or f"exp/{tag}/cache"), accelerator)


@pytest.mark.parametrize("space", [[], [3], [3, 4]])
def test_positions_of_joined_texts_are_those_of_their_parts(here, space):
    codes, positions = cache_of().of("train", "stamp")
    recipe = load_recipe("small.yaml", ["stages.lm.data.concat_probability=1"])
    vocab = replace(Vocab.load("dump"), space=space)
    data = MelDataset("dump/train", recipe.audio, config=recipe.stages["lm"].data, vocab=vocab,
                      with_mel=False)
    size = dict(zip(data.utts, map(len, data.texts), strict=True))
    made = SimpleNamespace(row=lambda utt: np.linspace(
        -1, size[utt] - 1, len(positions.row(utt))).astype(int))
    data.read_cache(codes, made)
    mates = [i for i, s in enumerate(data.speakers) if s == data.speakers[0]][:3]
    item, parts = data[Element(tuple(mates), 0)], [data[Element((i,), 0)] for i in mates]
    assert item.mel is None and item.frames == sum(p.frames for p in parts) == 2 * len(item.codes)
    assert torch.equal(item.codes, torch.cat([p.codes for p in parts]))
    at = token = 0
    for part in parts:
        mine = item.positions[token : token + len(part.codes)]
        assert torch.equal(mine, part.positions + at)
        # Where a part begins, its text has not: it stands at the end of what is in front.
        assert int(part.positions[0]) == -1 and int(mine[-1]) == at + len(part.text) - 1
        assert torch.equal(item.text[at : at + len(part.text)], part.text)
        assert at == 0 or item.text[at - len(space) : at].tolist() == space
        at, token = at + len(part.text) + len(space), token + len(part.codes)
    assert len(item.text) == at - len(space) and bool((item.positions.diff() >= 0).all())
    batch, _ = next(training_stream(data, 6, seed=0, workers=0)((0, 0)))
    assert batch.codes.shape == batch.positions.shape and batch.mel is None


def test_other_weights_or_data_are_another_cache(here):
    def names(prepared="stamp"):
        codes, positions = cache_of().of("train", prepared)
        return codes.scp.name, positions.scp.name

    def change(part):
        path = Path("exp/t/tokenizer/best/model.safetensors")
        tensors = load_file(path)
        name = next(k for k in tensors if k.startswith(part) and k.endswith("weight"))
        tensors[name] = tensors[name] + 0.1
        save_file(tensors, path)
    first = names()
    assert names() == first and len(files()) == 4
    other = names("other data")
    assert first[0] != other[0] and first[1] != other[1]
    change("lm.")
    assert names() == first
    change("rm.")
    assert names()[0] == first[0] and names()[1] != first[1]
    before = names()
    change("tokenizer.")
    assert names()[0] != first[0] and names()[1] != before[1]


def test_rows_of_another_length_are_refused(here):
    codes, positions = cache_of().of("train", "stamp")
    data = MelDataset("dump/train", load_recipe("small.yaml").audio,
                      config=load_recipe("small.yaml").stages["lm"].data)
    data.read_cache(codes, positions)
    longest = int(np.argmax(data.frames))
    data.codes.rows.entries[data.utts[longest]] = data.codes.rows.entries[
        data.utts[int(np.argmin(data.frames))]]
    with pytest.raises(UserError, match=r"its mel \d+ frames: delete this file and run again"):
        data[Element((longest,), 0)]


def test_several_processes_write_a_part_each(here):
    one = cache_of().of("train", "stamp")
    barrier, found = threading.Barrier(2, timeout=60), {}

    def process(rank):
        me = SimpleNamespace(process_index=rank, num_processes=2, is_main_process=rank == 0,
                             device="cpu", wait_for_everyone=barrier.wait)
        found[rank] = cache_of(folder="exp/t/parts", accelerator=me).of("train", "stamp")
    threads = [threading.Thread(target=process, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = Path("exp/t/parts")
    assert len(list(made.glob("*of2.ark"))) == 4 and len(list(made.glob("*.scp"))) == 2
    for rows in found.values():
        for mine, whole in zip(rows, one, strict=True):
            assert mine.scp.name == whole.scp.name
            for utt in MelDataset("dump/train", load_recipe("small.yaml").audio).utts:
                assert np.array_equal(mine.row(utt), whole.row(utt))


def test_a_pass_that_was_cut_off_is_made_again(here, monkeypatch):
    def cut(*arguments):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch:
        patch.setattr(RM, "align", cut)
        with pytest.raises(KeyboardInterrupt):
            cache_of().of("train", "stamp")
    assert kinds(files()) == ["train-tokens"]
    codes, positions = cache_of().of("train", "stamp")
    assert isinstance(codes, Codes) and isinstance(positions, Rows)
    assert kinds(files()) == ["train-positions", "train-tokens"]


@pytest.mark.parametrize("keep", [True, False])
def test_resumed_run_equals_unbroken_run_bit_for_bit(here, monkeypatch, keep):
    options = ("stages.lm.data.concat_probability=0.7", "stages.lm.train.save_every=2",
               "stages.lm.train.max_steps=5")
    new_tag("broken")
    assert train("lm", *options) == 0
    step = Stepper.step

    def broken(self, batches, number, *arguments, **more):
        if number == 3:
            raise KeyboardInterrupt
        return step(self, batches, number, *arguments, **more)
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", broken)
        assert train("lm", *options, tag="broken") != 0
    if not keep:
        shutil.rmtree("exp/broken/cache")
    assert train("lm", *options, tag="broken") == 0
    whole, resumed = weights("lm"), weights("lm", "broken")
    assert all(torch.equal(v, resumed[k]) for k, v in whole.items())


@pytest.mark.parametrize(("override", "message"), [
    ("stages.tokenizer.data.cached_tokens=true", "only tokens of a frozen tokenizer"),
    ("stages.vocoder.data.cached_tokens=true", "only tokens of a frozen tokenizer"),
    ("stages.rm.data.noise={snr_db: [5, 9]}", "tokens are others in every step")])
def test_what_cannot_be_cached_is_refused(here, override, message):
    stage = override.split(".")[1]
    with pytest.raises(UserError, match=rf"stages\.{stage}\.data\.cached_tokens: .*{message}"):
        load_recipe("small.yaml", [override])


def test_of_tokens_from_files_only_positions_are_cached(here):
    codes = yaml.safe_load((CONF / "codes.yaml").read_text())
    small = {"base": "small.yaml", "model": {"tokenizer": {
                 "codebook_size": 36, "levels": [4, 3, 3], "q_dim": 8}},
             "stages": {"fm": {"data": {"cached_tokens": False}},
                        "rm": {"data": {"cached_tokens": False}}}}
    Path("codes.yaml").write_text(yaml.safe_dump(merge(codes, small)))
    recipe = load_recipe("codes.yaml")
    assert {s: recipe.cached(s) for s in STAGES} == {
        "fm": (), "rm": (), "lm": ("positions",), "joint": ("positions",)}
    assert load_recipe("small.yaml").cached("lm") == ("tokens", "positions")
    with pytest.raises(UserError, match="come from files already"):
        load_recipe("codes.yaml", ["stages.rm.data.cached_tokens=true"])
    assert main(["tokens", "--config", "small.yaml", "--tag", "t", "--system", "tokenizer"]) == 0
    save_random_stages(Path("exp/codes"), recipe, Vocab.load("dump"), "fm", std=0.3)
    shutil.copytree("exp/codes/fm", "exp/codes/rm")
    changes = [f"stages.lm.train.{k}" for k in ("max_steps=2", "max_minutes=null")]
    assert main(["train", "lm", "--config", "codes.yaml", *changes]) == 0
    assert kinds(files("codes")) == ["dev-positions", "train-positions"]
