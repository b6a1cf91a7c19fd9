import math
import pickle
import shutil
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from made_corpus import AUDIO, make_dump

from e2etts.audio import load_wav, log_mel
from e2etts.data.dataset import CurriculumConfig, DataConfig, MelDataset
from e2etts.data.loader import collate, dev_batches, training_stream
from e2etts.data.sampler import BatchSampler, Element
from e2etts.errors import UserError

FLOOR = math.log(1e-5)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    return make_dump(tmp_path_factory.mktemp("corpus"), emotions=True)


def dataset(dump, name="train", **options):
    return MelDataset(dump / name, AUDIO, **options)


def same(a, b) -> bool:
    return a.utts == b.utts and all(
        torch.equal(v, getattr(b, k)) for k, v in vars(a).items() if isinstance(v, torch.Tensor))


def test_item_is_the_utterance_padded_to_whole_tokens(dump):
    data = dataset(dump, with_wav=True)
    odd = next(i for i, n in enumerate(data.frames) if n % 2)
    item = data[Element((odd,), 3)]
    wav = load_wav(data.wavs[odd], 16000)
    frames = int(data.frames[odd])
    mel = log_mel(torch.from_numpy(wav), AUDIO)
    assert len(item.mel) == frames + 1
    torch.testing.assert_close(item.mel[:-1], mel)
    assert bool((item.mel[-1] == FLOOR).all())
    assert len(item.wav) == (frames + 1) * AUDIO.hop_samples
    assert torch.equal(item.wav[: frames * 320], torch.from_numpy(wav[: frames * 320]))
    assert bool((item.wav[frames * 320 :] == 0).all())
    assert item.text.tolist() == data.texts[odd].tolist()
    assert item.language == 0 and data.vocab.speakers[item.speaker] == data.speakers[odd]


def test_joined_utterances_are_their_parts_in_order(dump):
    data = dataset(dump, with_wav=True)
    mates = [i for i, g in enumerate(data.groups) if g == data.groups[0]][:3]
    parts = [data[Element((i,), 0)] for i in mates]
    item = data[Element(tuple(mates), 0)]
    frames = [int(data.frames[i]) for i in mates]
    mel = torch.cat([p.mel[:n] for p, n in zip(parts, frames, strict=True)])
    assert torch.equal(item.mel[: len(mel)], mel)
    assert len(item.mel) == len(mel) + len(mel) % 2
    wav = torch.cat([p.wav[: n * 320] for p, n in zip(parts, frames, strict=True)])
    assert torch.equal(item.wav[: len(wav)], wav)
    space = data.vocab.space
    text = parts[0].text.tolist()
    for part in parts[1:]:
        text += space + part.text.tolist()
    assert item.text.tolist() == text
    assert item.utt == "+".join(data.utts[i] for i in mates)


def test_planned_length_is_the_length(dump):
    data = dataset(dump, config=DataConfig(concat_probability=0.8, concat_max_seconds=4))
    sampler = BatchSampler(data.plan(10, training=True), seed=0)
    rows = [row for batch in sampler.epoch(0) for row in batch]
    assert any(len(r.utts) > 1 for r in rows)
    for row in rows:
        assert len(data[row].mel) == sampler.row_frames(row.utts)


def test_voice_is_other_speech_of_the_speaker(dump):
    data = dataset(dump, config=DataConfig(reference_max_seconds=0.4))
    voices = set()
    for seed in range(20):
        item = data[Element((0,), seed)]
        assert len(item.reference_mel) <= 20
        found = [i for i in range(len(data)) if any(
            torch.equal(item.reference_mel, torch.from_numpy(data._mel(i)[a : a + 20].copy()))
            for a in range(max(1, data.frames[i] - 19)))]
        assert len(found) == 1 and found[0] != 0
        assert data.speakers[found[0]] == data.speakers[0]
        voices.add(found[0])
    assert len(voices) > 3
    data.of_speaker[data.speakers[0]] = [0]  # its speaker's only one
    assert len(data[Element((0,), 0)].reference_mel) == min(20, data.frames[0])


def test_a_curriculum_is_for_training_and_counts_frames(dump):
    config = DataConfig(curriculum=CurriculumConfig(from_seconds=0.6, epochs=2))
    data = dataset(dump, config=config)
    plan = data.plan(10, training=True)
    assert (plan.curriculum_frames, plan.curriculum_epochs) == (30, 2)
    assert data.plan(10, training=False) == dataset(dump).plan(10, training=False)
    stream = training_stream(data, 4, seed=0, workers=0)
    batches = [batch for batch, _ in islice(stream((0, 0)), 12)]
    again = next(stream((0, 2)))[0]
    assert same(again, batches[2])
    assert int(batches[0].mel_lens.max()) <= 30 < max(int(b.mel_lens.max()) for b in batches)
    for bad in ({"from_seconds": 0}, {"from_seconds": 1, "epochs": 0}):
        with pytest.raises(ValueError, match="curriculum"):
            CurriculumConfig(**bad)


def test_batch_pads_and_counts(dump):
    data = dataset(dump, with_wav=True)
    items = [data[Element((i,), i)] for i in (0, 3, 5)]
    batch = collate(items)
    for row, item in enumerate(items):
        n = len(item.mel)
        assert batch.mel_lens[row] == n and batch.text_lens[row] == len(item.text)
        assert torch.equal(batch.mel[row, :n], item.mel)
        assert bool((batch.mel[row, n:] == FLOOR).all())
        assert torch.equal(batch.wav[row, : n * 320], item.wav)
    assert batch.wav.shape == (3, batch.mel.shape[1] * 320)
    assert batch.text.dtype == torch.long and batch.emotion.tolist() == [i.emotion for i in items]


def test_missing_labels_are_minus_one(dump):
    data = dataset(dump)
    emotions = {data[Element((i,), 0)].emotion for i in range(len(data))}
    assert emotions == {-1, 0, 1}
    stranger = dataset(dump, vocab=replace(data.vocab, speakers=["nobody"]))
    assert stranger[Element((0,), 0)].speaker == -1


def test_item_does_not_depend_on_its_company(dump):
    data = dataset(dump)
    alone = collate([data[Element((2,), 9)]])
    both = collate([data[Element((2,), 9)], data[Element((4,), 1)]])
    n, v = alone.mel.shape[1], alone.reference_mel.shape[1]
    assert torch.equal(alone.mel[0], both.mel[0, :n])
    assert torch.equal(alone.reference_mel[0], both.reference_mel[0, :v])


def test_crops_of_mel_and_samples_belong_together(dump):
    data = dataset(dump, with_wav=True, config=DataConfig(crop_seconds=0.31))
    assert data.crop_frames == 16
    starts = set()
    for seed in range(10):
        item = data[Element((1,), seed)]
        assert item.mel.shape == (16, 8) and item.wav.shape == (16 * 320,)
        wav = load_wav(data.wavs[1], 16000)
        start = next(a for a in range(0, len(wav), 320)
                     if np.array_equal(wav[a : a + 16 * 320], item.wav.numpy()))
        starts.add(start)
        mel = log_mel(torch.from_numpy(wav), AUDIO)
        torch.testing.assert_close(item.mel, mel[start // 320 : start // 320 + 16])
    assert len(starts) > 3


@pytest.mark.parametrize("workers", [0, 1])
def test_stream_goes_on_from_its_cursor(dump, workers):
    data = dataset(dump, config=DataConfig(concat_probability=0.5, concat_max_seconds=3))
    stream = training_stream(data, 5.0, seed=4, workers=workers)
    whole = list(islice(stream((0, 0)), 18))
    cursor = whole[12][1]
    assert cursor[0] > 0
    again = list(islice(stream(cursor), 5))
    for (a, at), (b, bt) in zip(whole[13:], again, strict=True):
        assert at == bt and same(a, b)


def test_dev_is_the_same_every_time_and_complete(dump):
    data = dataset(dump, "dev", config=DataConfig(concat_probability=1.0))
    batches = dev_batches(data, 2.0)
    first, second = list(batches()), list(batches())
    assert len(first) > 1 and all(same(a, b) for a, b in zip(first, second, strict=True))
    assert sorted(u for b in first for u in b.utts) == data.utts
    narrow = list(dev_batches(data, 0.1)())  # the longest utterance is taken all the same
    assert sorted(u for b in narrow for u in b.utts) == data.utts and len(narrow) > len(first)


def test_set_that_was_not_prepared_is_a_user_error(dump):
    with pytest.raises(UserError, match=r"sentences/mel\.scp: .*--stage 2"):
        dataset(dump, "sentences")
    with pytest.raises(UserError, match="longer than a batch"):
        training_stream(dataset(dump), 0.5, seed=0)


def test_commands_in_mel_scp_are_never_run(dump, tmp_path):
    shutil.copytree(dump, tmp_path / "dump")
    scp = tmp_path / "dump/train/mel.scp"
    first, *rest = scp.read_text().splitlines(keepends=True)
    scp.write_text(f"{first.split()[0]} touch {tmp_path}/ran |\n" + "".join(rest))
    with pytest.raises(UserError, match="command"):
        dataset(tmp_path / "dump")
    assert not (tmp_path / "ran").exists()


def test_dump_may_be_moved(dump, tmp_path):
    shutil.copytree(dump, tmp_path / "moved")
    data = dataset(tmp_path / "moved")
    assert str(tmp_path) in data.mels[0]
    assert torch.equal(data[Element((0,), 0)].mel, dataset(dump)[Element((0,), 0)].mel)


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_ark_is_one_line_from_a_worker_too(dump, tmp_path, workers):
    shutil.copytree(dump, tmp_path / "dump")
    ark = tmp_path / "dump/train/mel.ark"
    ark.write_bytes(ark.read_bytes()[:5000])
    stream = training_stream(dataset(tmp_path / "dump"), 5.0, seed=0, workers=workers)
    with pytest.raises(UserError, match=r"mel\.ark:\d+: cannot read 'voice-") as e:
        list(islice(stream((0, 0)), 10))
    assert "Traceback" not in str(e.value) and "\n" not in str(e.value)


def test_pickles_in_mel_arks_are_never_loaded(dump, tmp_path):
    shutil.copytree(dump, tmp_path / "dump")
    data = dataset(tmp_path / "dump")
    (tmp_path / "dump/train/mel.ark").write_bytes(
        b"a PKL" + pickle.dumps(np.zeros((int(data.frames[0]), AUDIO.mel_bands))))
    (tmp_path / "dump/train/mel.scp").write_text(
        "".join(f"{utt} mel.ark:2\n" for utt in data.utts))
    with pytest.raises(UserError, match="not a binary Kaldi matrix or vector"):
        dataset(tmp_path / "dump")[Element((0,), 0)]
