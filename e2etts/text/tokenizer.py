"""Text tokenizers: a SentencePiece model, or the published tokenizer of a text LLM."""

import contextlib
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from e2etts.errors import UserError
from e2etts.hub import published_folder
from e2etts.text.normalise import PUNCTUATION
from e2etts.text.phonemes import pinyin_syllables


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text tokenisation. ``vocab_size`` is the maximum for unigram and bpe; char has all symbols.

    model_type: "published" uses the tokenizer.json of ``published`` (a folder or a hub name)
    unchanged; the LM can then be initialised from the text LLM of that tokenizer.
    phonemes: tokenise phonemes instead of graphemes.
    """

    model_type: Literal["char", "unigram", "bpe", "published"] = "char"
    vocab_size: int = 512
    phonemes: bool = True
    published: str | None = None

    def __post_init__(self):
        if (self.model_type == "published") != (self.published is not None):
            raise ValueError("model_type 'published' and the key 'published' go together")
        if self.published and self.phonemes:
            raise ValueError("a published tokenizer reads graphemes: set phonemes to false")


PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
# All symbols that espeak-ng writes for five languages: rare phonemes are never unknown.
IPA = "abcdefhijklmnopqrstuvwxyzæçðøŋœɐɑɒɔəɚɛɜɟɡɣɨɪɫɬɭɲɹɾʀʁʂʃʊʌʎʐʑʒʔʝʲˈˌːθβχɕɯɵʉ̪̩̃͡ʰʷ"
_TONES = "12345"  # the only digits in normalised text or phonemes


class TextTokenizer:
    """Base class of the tokenizers: ``len``, ``encode``, ``decode`` and ``save``.

    ``unknown`` counts out-of-vocabulary symbols; they are encoded as the unknown id.
    """

    def __init__(self, model: bytes):
        self._model = model
        self.unknown: Counter[str] = Counter()

    @staticmethod
    def train(lines: Iterable[str], config: TextConfig) -> "TextTokenizer":
        """Train on normalised (or phonemised) lines, deterministically. A published tokenizer is
        downloaded, not trained."""
        if config.published is None:
            return PieceTokenizer(train_pieces(lines, config))
        path = published_folder(config.published, ["tokenizer.json"]) / "tokenizer.json"
        try:
            return PublishedTokenizer(path.read_bytes())
        except OSError as e:
            raise UserError(f"{path}: cannot read the tokenizer: {e.strerror}") from e
        except ValueError as e:
            raise UserError(f"{path}: {e}") from e

    @staticmethod
    def load(path: str | Path) -> "TextTokenizer":
        """Read a model file. Raises UserError when it is missing or damaged."""
        try:
            model = Path(path).read_bytes()
            return (PublishedTokenizer if model[:1] == b"{" else PieceTokenizer)(model)
        except OSError as e:
            raise UserError(f"{path}: cannot read the text model: {e.strerror}; run the prepare "
                            "stage (--stage 2)") from e
        except (RuntimeError, ValueError) as e:
            raise UserError(f"{path}: not a SentencePiece model, nor a tokenizer.json; run the "
                            "prepare stage again (--stage 2)") from e

    def save(self, path: str | Path) -> None:
        """Write the model atomically (temporary name, rename)."""
        path = Path(path)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(self._model)
            part.replace(path)
        except OSError as e:
            with contextlib.suppress(OSError):
                part.unlink()
            raise UserError(f"{path}: cannot write: {e.strerror}") from e

    def grown(self, lines: Iterable[str]) -> "TextTokenizer":
        """Extend the vocabulary with the symbols of ``lines``. All existing ids stay, and texts
        without new symbols keep their encoding."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; out-of-vocabulary symbols become the unknown id and are counted."""
        raise NotImplementedError

    def decode(self, ids: list[int]) -> str:
        """Text of ``ids``; unknown symbols appear as ⁇."""
        raise NotImplementedError


class PieceTokenizer(TextTokenizer):
    """A SentencePiece model. Ids: 0 padding, 1 unknown, 2 begin, 3 end, then the pieces."""

    def __init__(self, model: bytes):
        super().__init__(model)
        self._pieces = sentencepiece.SentencePieceProcessor()
        self._pieces.LoadFromSerializedProto(model)

    def grown(self, lines: Iterable[str]) -> "PieceTokenizer":
        proto = sentencepiece_model_pb2.ModelProto.FromString(self._model)
        known = {p.piece for p in proto.pieces}
        symbols, syllables = _symbols(lines)
        lowest = min(p.score for p in proto.pieces)
        # Only new single symbols: a longer piece would change the segmentation of known texts.
        for new in [*sorted(symbols - known - {" "}), *sorted(syllables - known)]:
            kind = "USER_DEFINED" if new in syllables else "NORMAL"
            proto.pieces.add(piece=new, score=lowest - 1,
                             type=getattr(proto.SentencePiece, kind))
        proto.trainer_spec.vocab_size = len(proto.pieces)
        return PieceTokenizer(proto.SerializeToString())

    def __len__(self) -> int:
        return self._pieces.GetPieceSize()

    def encode(self, text: str) -> list[int]:
        pieces = self._pieces.EncodeAsPieces(text)
        ids = [self._pieces.PieceToId(p) for p in pieces]
        self.unknown.update(c for p, i in zip(pieces, ids, strict=True) if i == UNKNOWN
                            for c in p.strip("▁"))
        return ids

    def decode(self, ids: list[int]) -> str:
        return self._pieces.DecodeIds(ids)


class PublishedTokenizer(TextTokenizer):
    """The tokenizer.json of a text LLM, with its ids; byte-level BPE covers all text.

    A space is put before each text, as before a word inside a sentence, so that texts can be
    concatenated.
    """

    def __init__(self, model: bytes):
        """Raises ValueError for anything but a tokenizer.json."""
        super().__init__(model)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(model.decode("utf-8"))
        except Exception as e:  # the library raises plain Exception
            raise ValueError(f"not a tokenizer.json: {e}") from e

    def grown(self, lines: Iterable[str]) -> "PublishedTokenizer":
        return self

    def __len__(self) -> int:
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(" " + text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids).removeprefix(" ")


def train_pieces(lines: Iterable[str], config: TextConfig) -> bytes:
    """Train a SentencePiece model on ``lines``; each pinyin syllable is one piece. Raises UserError
    if there is no text."""
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise UserError("text model: no training text; check the text of the train set")
    symbols, syllables = _symbols(lines)
    symbols |= set(PUNCTUATION) | (set(IPA) if config.phonemes else set())
    symbols.discard(" ")
    model = io.BytesIO()
    least = len(symbols) + len(syllables) + 5
    size = least if config.model_type == "char" else max(config.vocab_size, least)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, model_type=config.model_type,
            vocab_size=size, hard_vocab_limit=False, character_coverage=1.0,
            required_chars="".join(sorted(symbols)), user_defined_symbols=sorted(syllables),
            normalization_rule_name="identity", pad_id=PAD, unk_id=UNKNOWN, bos_id=BEGIN,
            eos_id=END, num_threads=1, shuffle_input_sentence=False, max_sentence_length=16384,
            minloglevel=2)
    except (RuntimeError, OSError) as e:
        raise UserError(f"text model: SentencePiece cannot be trained: "
                        f"{' '.join(str(e).split())}; lower text.vocab_size") from e
    return model.getvalue()


def _symbols(lines: Iterable[str]) -> tuple[set[str], set[str]]:
    """Single symbols of ``lines``, and all Mandarin syllables if ``lines`` have tones."""
    symbols = set().union(*map(set, lines))
    if not symbols & set(_TONES):
        return symbols, set()
    return symbols - set(_TONES), set(pinyin_syllables())
