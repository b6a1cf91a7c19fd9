"""Token ids are stable, and encoding is lossless for known symbols."""

import os

import pytest
import tokenizers

from e2etts.errors import UserError
from e2etts.text import BEGIN, END, PAD, UNKNOWN, TextConfig, TextTokenizer

LINES = ["həlˈoʊ wˈɜːld .", "ɡˈʊd mˈɔːɹnɪŋ , wˈɜːld !", "sʲivˈodnʲʌ ?", "ʁəvwˈaʁ ."] * 30


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_ids_are_stable_and_known_text_round_trips(kind, tmp_path):
    config = TextConfig(model_type=kind, vocab_size=130)
    tokenizer = TextTokenizer.train(LINES, config)
    again = TextTokenizer.train(iter(LINES), config)
    tokenizer.save(tmp_path / "text.model")
    loaded = TextTokenizer.load(tmp_path / "text.model")
    for line in LINES[:4]:
        ids = tokenizer.encode(line)
        assert ids == again.encode(line) == loaded.encode(line)
        assert min(ids) > END and max(ids) < len(tokenizer)
        assert tokenizer.decode(ids) == line
    assert (PAD, UNKNOWN, BEGIN, END) == (0, 1, 2, 3)
    assert not tokenizer.unknown and os.listdir(tmp_path) == ["text.model"]


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_unseen_phonemes_are_covered_and_other_symbols_counted(kind):
    tokenizer = TextTokenizer.train(LINES, TextConfig(model_type=kind, vocab_size=130))
    assert UNKNOWN not in tokenizer.encode("ʒɔ̃ˈ ɣβ") and not tokenizer.unknown
    ids = tokenizer.encode("wˈ字ɜː字")
    assert ids.count(UNKNOWN) == 2 and tokenizer.unknown == {"字": 2}


def test_graphemes_instead_of_phonemes():
    tokenizer = TextTokenizer.train(["hello there", "how are you?"] * 20,
                                    TextConfig(phonemes=False))
    assert len(tokenizer) < 30
    assert tokenizer.decode(tokenizer.encode("you are here!")) == "you are here!"


def test_broken_models_and_empty_training_text(tmp_path):
    with pytest.raises(UserError, match="no training text"):
        TextTokenizer.train(["", " "], TextConfig())
    with pytest.raises(UserError, match="cannot read the text model"):
        TextTokenizer.load(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        TextTokenizer.load(tmp_path / "bad")
    with pytest.raises(UserError, match="cannot write"):
        TextTokenizer.train(LINES, TextConfig()).save(tmp_path / "bad" / "text.model")


SYLLABLES = ["ni2 hao3 , yi1 er4 san1 .", "wo3 shi4 lv4 shi1 !", "ˌoʊkˈeɪ wo3 men5 ?"]


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_a_syllable_with_its_tone_is_a_token(kind):
    tokenizer = TextTokenizer.train(SYLLABLES * 30, TextConfig(model_type=kind, vocab_size=130))
    assert len(tokenizer) > 2000
    ids = tokenizer.encode("zhuang4 nv3")  # in no training line
    assert UNKNOWN not in ids and tokenizer.decode(ids) == "zhuang4 nv3"
    assert len([i for i in ids if len(tokenizer.decode([i])) > 1]) == 2


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_an_extended_tokenizer_encodes_known_text_as_before(kind):
    old = TextTokenizer.train(LINES, TextConfig(model_type=kind, vocab_size=130))
    new = old.grown(["fˈʏnf y ß", *SYLLABLES])
    assert [new.encode(line) for line in LINES[:4]] == [old.encode(line) for line in LINES[:4]]
    assert len(new) > len(old) + 2000
    assert UNKNOWN in old.encode("ʏ") and UNKNOWN not in new.encode("fˈʏnf ß ni2 zhuang4")
    assert len(new.grown(SYLLABLES)) == len(new)


@pytest.fixture
def published(tmp_path):
    """A byte-level BPE of the same form as that of Qwen3, trained on two lines."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.train_from_iterator(["hello there", "你好"], tokenizers.trainers.BpeTrainer(
        vocab_size=300, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"]))
    bpe.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_published_tokenizer_is_used_unchanged(published, tmp_path):
    config = TextConfig(model_type="published", published=str(published), phonemes=False)
    TextTokenizer.train([], config).save(tmp_path / "text.model")
    loaded = TextTokenizer.load(tmp_path / "text.model")
    theirs = tokenizers.Tokenizer.from_file(str(published / "tokenizer.json"))
    for line in ("hello there, ærlig", "你好, 再见."):
        assert loaded.encode(line) == theirs.encode(" " + line).ids
        assert loaded.decode(loaded.encode(line)) == line
        assert loaded.encode(f"{line} hello") == loaded.encode(line) + loaded.encode("hello")
    assert len(loaded) == theirs.get_vocab_size() and not loaded.unknown
    assert loaded.grown(["ж"]) is loaded


def test_a_published_tokenizer_that_is_unavailable(published, monkeypatch):
    def config(source):
        return TextConfig(model_type="published", published=source, phonemes=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="Some/Model: no such folder, and it cannot be downloaded"):
        TextTokenizer.train([], config("Some/Model"))
    with pytest.raises(UserError, match="not the name of a hub repository"):
        TextTokenizer.train([], config("no/such/folder"))
    (published / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="tokenizer.json: not a tokenizer.json"):
        TextTokenizer.train([], config(str(published)))
    (published / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="tokenizer.json: cannot read the tokenizer"):
        TextTokenizer.train([], config(str(published)))


@pytest.mark.parametrize("changes", [{"model_type": "published"}, {"published": "x"},
                                     {"model_type": "published", "published": "x"}])
def test_an_incomplete_published_tokenizer_is_rejected(changes):
    with pytest.raises(ValueError, match="publi"):
        TextConfig(**changes)
