"""A random Whisper in the files that transformers reads."""

import json
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>",
           "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>",
           "<|notimestamps|>")


def write_whisper(folder: Path, window_seconds: int = 1) -> None:
    """Weights in half precision, to be used in float32."""
    folder.mkdir(parents=True)
    vocab = {c: i for i, c in enumerate([*sorted(ByteLevel.alphabet()), *SPECIAL])}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer.from_pretrained(
        folder, bos_token=SPECIAL[0], eos_token=SPECIAL[0], unk_token=SPECIAL[0],
        extra_special_tokens=list(SPECIAL[1:]))
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80, chunk_length=window_seconds).save_pretrained(folder)
    torch.manual_seed(0)
    end, start = vocab[SPECIAL[0]], vocab[SPECIAL[1]]
    model = WhisperForConditionalGeneration(WhisperConfig(
        vocab_size=len(vocab), d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, num_mel_bins=80, max_source_positions=50 * window_seconds,
        max_target_positions=448, init_std=0.5, pad_token_id=end, bos_token_id=end,
        eos_token_id=end, decoder_start_token_id=start))
    for value in model.parameters():
        value.data.mul_(3)  # so that its output depends on its input
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, eos_token_id=end, pad_token_id=end, bos_token_id=end,
        max_length=16, is_multilingual=True, no_timestamps_token_id=vocab["<|notimestamps|>"],
        lang_to_id={"<|en|>": vocab["<|en|>"], "<|zh|>": vocab["<|zh|>"]},
        task_to_id={"transcribe": vocab["<|transcribe|>"], "translate": vocab["<|translate|>"]},
        suppress_tokens=[vocab[s] for s in SPECIAL[1:]], begin_suppress_tokens=[end])
    model.to(torch.float16).save_pretrained(folder)
