"""Text front end: text normalisation, phonemisation (G2P) and text tokenisation."""

from e2etts.text.normalise import LANGUAGES, PUNCTUATION, language_of, normalise
from e2etts.text.phonemes import phonemise
from e2etts.text.tokenizer import (
    BEGIN,
    END,
    IPA,
    PAD,
    UNKNOWN,
    TextConfig,
    TextTokenizer,
)

__all__ = ["BEGIN", "END", "IPA", "LANGUAGES", "PAD", "PUNCTUATION", "UNKNOWN", "TextConfig",
           "TextTokenizer", "language_of", "normalise",
           "phonemise"]
