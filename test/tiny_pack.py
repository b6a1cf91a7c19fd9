"""Trained systems on disk, random and tiny."""

from pathlib import Path

import torch
from tiny import BANDS, sizes, system_config, wake

from e2etts.audio import AudioConfig
from e2etts.config import to_dict
from e2etts.data.vocab import Vocab
from e2etts.nets.system import System
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.recipe import RecipeConfig
from e2etts.stages.start import model_config
from e2etts.tasks.build import build_system, build_vocoder
from e2etts.text import TextConfig, TextTokenizer
from e2etts.train.checkpoint import save_checkpoint


def write_pack(folder: Path) -> None:
    """What ``e2etts pack`` gathers, but for its texts: languages en and fr, 16 kHz."""
    torch.manual_seed(0)
    text = TextConfig(phonemes=False)
    tokenizer = TextTokenizer.train(["hello there", "one two three"], text)
    audio, vocoder = AudioConfig(mel_bands=BANDS), VocoderConfig(dim=16, layers=1)
    size = sizes(text_vocab=len(tokenizer))
    net = wake(System(system_config(), size), std=0.3)
    voice = Vocoder(vocoder, sample_rate_hz=16000, hop_samples=320, mel_bands=BANDS)
    meta = {"config": {"audio": to_dict(audio), "model": to_dict(system_config()),
                       "text": to_dict(text), "sizes": vars(size), "vocoder": to_dict(vocoder)}}
    save_checkpoint(folder / "joint", net.state_dict(), meta)
    save_checkpoint(folder / "vocoder", voice.state_dict(), meta)
    tokenizer.save(folder / "text.model")
    Vocab(speakers=["a", "b", "c"], languages=["en", "fr"], emotions=["sad", "glad"],
          mel_mean=-4.0, mel_std=2.0, text_size=len(tokenizer), space=[3]).save(folder)


def save_random_stages(exp: Path, recipe: RecipeConfig, vocab: Vocab, stage: str,
                       std: float) -> None:
    """Checkpoints of ``stage`` and of the vocoder, as if they had been trained."""
    torch.manual_seed(0)
    nets = {stage: wake(build_system(recipe, vocab), std=std),
            "vocoder": build_vocoder(recipe.vocoder, recipe.audio)}
    for name, net in nets.items():
        save_checkpoint(exp / name / "best", net.state_dict(),
                        {"config": model_config(recipe, name, vocab)})
