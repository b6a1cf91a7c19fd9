"""Speech tokens in files, and a prepared set that reads them."""

import pickle
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
from made_corpus import AUDIO, make_dump

from e2etts.data.codes import Codes, write_codes
from e2etts.data.dataset import DataConfig, MelDataset
from e2etts.data.loader import dev_batches
from e2etts.data.sampler import BatchSampler, Element
from e2etts.errors import UserError

V = 50
ROWS = {"b": [4, 0, 49], "a": [7], "c": [1, 2, 3, 4]}


def write(folder: Path, rows: dict[str, list], dtype=np.int64, name="codes") -> int:
    return write_codes(folder, name, ((u, np.array(r, dtype=dtype)) for u, r in rows.items()))


def codes(folder: Path, utts=tuple(ROWS)) -> Codes:
    return Codes(folder, "codes", utts, V)


def test_rows_come_back_as_they_were_written(tmp_path):
    assert write(tmp_path, ROWS) == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codes.ark", "codes.scp"]
    for utt, row in ROWS.items():
        got = codes(tmp_path).row(utt)
        assert got.dtype == np.int64 and got.tolist() == row
        assert kaldiio.load_scp(str(tmp_path / "codes.scp"))[utt].tolist() == row
    assert write(tmp_path, {"a": [5]}) == 1 and codes(tmp_path, ["a"]).row("a").tolist() == [5]


def test_the_folder_may_be_moved(tmp_path):
    (tmp_path / "old").mkdir()
    write(tmp_path / "old", ROWS)
    (tmp_path / "old").rename(tmp_path / "new")
    assert codes(tmp_path / "new").row("c").tolist() == ROWS["c"]


def test_missing_files_and_utterances_are_named(tmp_path):
    with pytest.raises(UserError, match=r"codes\.scp: no such file: .*e2etts tokens"):
        codes(tmp_path)
    write(tmp_path, ROWS)
    with pytest.raises(UserError, match=r"lacks 2 of 3 utterances, the first is 'x'"):
        codes(tmp_path, ["a", "x", "y"])


@pytest.mark.parametrize(("row", "message"), [
    ([3, V], "outside 0..49: set model.tokenizer.codebook_size"), ([-1], "outside 0..49")])
def test_tokens_outside_of_the_codebook_are_refused(tmp_path, row, message):
    write(tmp_path, {"a": row})
    with pytest.raises(UserError, match=message):
        codes(tmp_path, ["a"]).row("a")


@pytest.mark.parametrize("array", [np.array([1.0, 2.0], np.float32), np.ones((2, 3), np.float32)])
def test_arks_of_floats_are_refused(tmp_path, array):
    kaldiio.save_ark(str(tmp_path / "codes.ark"), {"a": array}, scp=str(tmp_path / "codes.scp"))
    with pytest.raises(UserError, match="'a' is no row of integers but float32"):
        codes(tmp_path, ["a"]).row("a")


class Ran:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return Path.mkdir, (self.folder,)


def test_nothing_in_the_files_is_run(tmp_path):
    ran = tmp_path / "ran"
    for content, message in ((b"PKL" + pickle.dumps(Ran(ran)), "not a binary Kaldi"),
                             (b"NPY", "not a binary Kaldi"), (b"", "not a binary Kaldi"),
                             (b"\0B", "cannot read tokens of 'a'")):
        (tmp_path / "codes.ark").write_bytes(b"a " + content)
        (tmp_path / "codes.scp").write_text("a codes.ark:2\n")
        with pytest.raises(UserError, match=message) as e:
            codes(tmp_path, ["a"]).row("a")
        assert "\n" not in str(e.value)
    for command in (f"mkdir {ran} |", f"| mkdir {ran}"):
        (tmp_path / "codes.scp").write_text(f"a {command}\n")
        with pytest.raises(UserError, match="'a' is a command"):
            codes(tmp_path, ["a"])
    assert not ran.exists()


@pytest.mark.parametrize("name", ["mel", "wav", "", "../codes"])
def test_tokens_never_replace_other_files(tmp_path, name):
    with pytest.raises(UserError, match="cannot be the name of tokens"):
        write(tmp_path, ROWS, name=name)
    assert not list(tmp_path.iterdir())


def test_a_row_that_fails_leaves_the_old_files(tmp_path):
    write(tmp_path, ROWS)

    def rows():
        yield "a", np.array([1])
        raise UserError("damaged mel")
    with pytest.raises(UserError, match="damaged mel"):
        write_codes(tmp_path, "codes", rows())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["codes.ark", "codes.scp"]
    assert codes(tmp_path).row("c").tolist() == ROWS["c"]


def test_lengths_may_differ_by_what_tokenizers_pad(tmp_path):
    write(tmp_path, {"a": [1] * 10, "b": [2] * 12})
    some = codes(tmp_path, ["a", "b"])
    assert some.lengths({"a": 24, "b": 21}, 2) == [10, 12]
    for frames in ({"a": 25, "b": 24}, {"a": 15, "b": 24}):
        with pytest.raises(UserError, match=rf"1 utterances whose tokens do not fit 2 mel frames a "
                                            rf"token: a \(10 tokens, {frames['a']} mel frames\)"):
            some.lengths(frames, 2)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """With tokens of which an utterance has up to two more, or one fewer, than its mel; each is its
    position in the row, that of every other row 25 more."""
    dump = make_dump(tmp_path_factory.mktemp("corpus"))
    for name in ("train", "dev"):
        data = MelDataset(dump / name, AUDIO)
        rows = {u: (np.arange(max(1, n // 2 + i % 4 - 1)) + 25 * (i % 2)) % V
                for i, (u, n) in enumerate(zip(data.utts, data.frames, strict=True))}
        write(dump / name, rows)
    return dump


def dataset(dump, name="train", **config):
    return MelDataset(dump / name, AUDIO, config=DataConfig(**config), codes=("codes", V))


def test_an_utterance_is_as_long_as_its_tokens(dump):
    data, plain = dataset(dump), MelDataset(dump / "train", AUDIO)
    lengths = set()
    for i, utt in enumerate(data.utts):
        item, row = data[Element((i,), 0)], data.codes.row(utt)
        assert torch.equal(item.codes, torch.from_numpy(row)) and len(item.mel) == 2 * len(row)
        mel = torch.from_numpy(plain._mel(i).copy())
        both = min(len(mel), len(item.mel))
        assert torch.equal(item.mel[:both], mel[:both])
        assert bool((item.mel[both:] == np.log(np.float32(1e-5))).all())
        lengths.add(len(item.mel) - len(mel))
    assert min(lengths) < 0 < max(lengths)


def test_joined_utterances_keep_tokens_and_mel_together(dump):
    data = dataset(dump, concat_probability=1.0, concat_max_seconds=8)
    sampler = BatchSampler(data.plan(20.0, training=True), seed=3)
    rows = [e for batch in sampler.epoch(0) for e in batch]
    assert max(len(e.utts) for e in rows) > 2
    for row in rows:
        item, parts = data[row], [data[Element((i,), 0)] for i in row.utts]
        assert torch.equal(item.codes, torch.cat([p.codes for p in parts]))
        assert torch.equal(item.mel, torch.cat([p.mel for p in parts]))
        assert len(item.mel) == 2 * len(item.codes) == sampler.row_frames(row.utts)


def test_crops_of_tokens_and_mel_belong_together(dump):
    data = dataset(dump, crop_seconds=0.24)
    long = int(np.argmax(data.used_frames))
    whole = dataset(dump)[Element((long,), 0)]
    starts = set()
    for seed in range(20):
        item = data[Element((long,), seed)]
        assert item.mel.shape == (12, 8) and item.codes.shape == (6,)
        start = int(item.codes[0] - whole.codes[0]) % V
        assert torch.equal(item.codes, whole.codes[start : start + 6])
        assert torch.equal(item.mel, whole.mel[2 * start : 2 * start + 12])
        starts.add(start)
    assert len(starts) > 3


def test_batches_have_as_many_tokens_as_the_mel_has_room_for(dump):
    data = dataset(dump, "dev")
    for batch in dev_batches(data, 3.0)():
        assert batch.mel.shape[1] == 2 * batch.codes.shape[1] and batch.codes.dtype == torch.long
        for b, utt in enumerate(batch.utts):
            row = data.codes.row(utt)
            assert batch.mel_lens[b] == 2 * len(row)
            assert batch.codes[b, : len(row)].tolist() == row.tolist()
    plain = next(iter(dev_batches(MelDataset(dump / "dev", AUDIO), 3.0)()))
    assert plain.codes is None


def test_tokens_of_another_rate_are_refused(dump, tmp_path):
    data = MelDataset(dump / "train", AUDIO)
    write(dump / "train", {u: [1] * int(n) for u, n in zip(data.utts, data.frames, strict=True)},
          name="fast")
    with pytest.raises(UserError, match="set audio.frames_per_token to the rate of the tokens"):
        MelDataset(dump / "train", AUDIO, codes=("fast", V))
