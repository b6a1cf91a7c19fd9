"""From text to wav with a trained system: text, LM, RM as judge of samples, FM, vocoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from e2etts.audio import AudioConfig, log_mel
from e2etts.config import build
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.infer.config import SynthesisConfig
from e2etts.infer.sampling import sample_tokens
from e2etts.nets.packed import PackedLM
from e2etts.nets.system import Sizes, System, SystemConfig
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.text import TextConfig, TextTokenizer, normalise, phonemise
from e2etts.train.checkpoint import load_checkpoint, restore


@dataclass(frozen=True)
class Prompt:
    """A voice prompt: tokens (P,) and natural-log mel (F, M) of a recording, ids of its text, and
    the place (P,) of each token in it where the LM reads aligned."""

    tokens: torch.Tensor
    place: torch.Tensor | None
    mel: torch.Tensor
    text_ids: list[int]


@dataclass(frozen=True)
class Speech:
    """wav: (S,) float samples; tokens: (T,); score: the RM's nats a text token, lower is better."""

    wav: np.ndarray
    tokens: torch.Tensor
    score: float | None = None


def load_system(checkpoint: str | Path) -> tuple[System, dict[str, Any]]:
    """The system of a checkpoint folder, in evaluation mode, and the folder's meta.json.

    Raises UserError for a folder that is missing, damaged or holds no system.
    """
    tensors, meta = load_checkpoint(checkpoint)
    told = meta["config"]
    if "model" not in told:
        raise UserError(f"{checkpoint}: holds no system, but {', '.join(sorted(told))}: name a "
                        "stage that trains one")
    system = System(build(SystemConfig, told["model"], "model"), Sizes(**told["sizes"]))
    restore(system, tensors, str(checkpoint))
    return system.eval(), meta


class Synthesizer:
    """A trained system with its vocoder, text front end and labels.

    The nets are on ``device``; speech, tokens, voices and mels go in and come out on the CPU.
    """

    def __init__(
        self, system: System, vocoder: Vocoder, audio: AudioConfig, text: TextConfig,
        tokenizer: TextTokenizer, vocab: Vocab, config: SynthesisConfig,
        device: torch.device | str = "cpu",
    ):
        self.device = torch.device(device)
        self.system, self.vocoder = system.eval().to(device), vocoder.eval().to(device)
        self.audio, self.text, self.tokenizer = audio, text, tokenizer
        self.vocab, self.config = vocab, config
        self.packed = PackedLM(system.lm)

    @classmethod
    def load(
        cls, system: str | Path, vocoder: str | Path, dump: str | Path, config: SynthesisConfig,
        device: torch.device | str | None = None,
    ) -> "Synthesizer":
        """From two checkpoint folders and the folder of text.model and vocab.json; device: the
        GPU where there is one unless told.

        Raises UserError for a missing or damaged file, or one that does not fit the others.
        """
        net, meta = load_system(system)
        voice_tensors, voice_meta = load_checkpoint(vocoder)
        told = meta["config"]
        if voice_meta["config"]["audio"] != told["audio"]:
            raise UserError(f"{vocoder}: made for other audio settings than {system}: "
                            "train both with one configuration")
        audio = build(AudioConfig, told["audio"], "audio")
        voc = Vocoder(build(VocoderConfig, voice_meta["config"]["vocoder"], "vocoder"),
                      sample_rate_hz=audio.sample_rate_hz, hop_samples=audio.hop_samples,
                      mel_bands=audio.mel_bands)
        restore(voc, voice_tensors, str(vocoder))
        vocab = Vocab.load(dump)
        if vocab.text_size != told["sizes"]["text_vocab"]:
            raise UserError(f"{dump}/vocab.json: {vocab.text_size} text tokens, {system} was "
                            f"trained with {told['sizes']['text_vocab']}: prepare and train again")
        text = build(TextConfig, told["text"], "text")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(net, voc, audio, text, TextTokenizer.load(Path(dump) / "text.model"), vocab,
                   config, device)

    def text_ids(self, text: str, lang: str) -> list[int]:
        """Raw text -> text tokens, as the LM was trained. Raises UserError for empty text."""
        spoken = normalise(text, lang)
        return self.tokenizer.encode(phonemise([spoken], lang)[0] if self.text.phonemes
                                     else spoken)

    def mel(self, wav: np.ndarray) -> torch.Tensor:
        """(S,) samples at the system's rate -> (F, M) natural-log mel of whole tokens.

        Raises UserError where there are none."""
        if not len(wav):
            raise UserError("a recording with no audio in it: give one with speech")
        samples = torch.from_numpy(np.ascontiguousarray(wav, dtype=np.float32))
        token = self.audio.hop_samples * self.audio.frames_per_token
        samples = torch.nn.functional.pad(samples, (0, -len(samples) % token))
        return log_mel(samples, self.audio)

    @torch.no_grad()
    def voice(self, wavs: list[np.ndarray]) -> torch.Tensor:
        """Mean voice (X,) of recordings of one speaker, of length 1."""
        voices = self.system.voice(*self._padded([self.mel(w) for w in wavs]))
        return torch.nn.functional.normalize(voices.mean(0), dim=0).cpu()

    @torch.no_grad()
    def encode(self, wavs: list[np.ndarray]) -> list[torch.Tensor]:
        """Speech tokens (T,) of each recording."""
        tokens = self.system.encode(*self._padded([self.mel(w) for w in wavs]))
        return _cut(tokens.index, tokens.lens)

    @torch.no_grad()
    def prompt(self, wav: np.ndarray, text: str, lang: str) -> Prompt:
        """A voice prompt from a recording and its text."""
        tokens, ids = self.encode([wav])[0], self.text_ids(text, lang)
        index, lens = self._padded([tokens])
        place = self.system.place(self.system.tokenizer.embed(index), lens,
                                  *self._padded([torch.tensor(ids)]))
        return Prompt(tokens, None if place is None else place[0].cpu(), self.mel(wav), ids)

    def style(self, names: list[str | None]) -> torch.Tensor | None:
        """(R,) style ids of labels where the nets are, None for no style; None for a system
        without styles.

        Raises UserError for a style that the system does not have."""
        asked = next((n for n in names if n is not None), None)
        if self.system.config.style is None:
            if asked is not None:
                raise UserError(f"style '{asked}': this system was trained without styles: set "
                                "model.style and train on data with utt2emo")
            return None
        known = self.vocab.emotions
        wrong = next((n for n in names if n is not None and n not in known), None)
        if wrong is not None:
            raise UserError(f"no style '{wrong}'; styles: {', '.join(known)}")
        return torch.tensor([0 if n is None else known.index(n) + 1 for n in names],
                            device=self.device)

    def copy(
        self, wavs: list[np.ndarray], voices: list[torch.Tensor], seed: int = 0,
        styles: list[str | None] | None = None,
    ) -> list[Speech]:
        """Copy synthesis: the tokens of recordings through FM and vocoder."""
        tokens = self.encode(wavs)
        wavs = self.render(tokens, voices, seed=seed, styles=styles)
        return [Speech(w, t) for w, t in zip(wavs, tokens, strict=True)]

    @torch.no_grad()
    def speak(
        self, texts: list[list[int]], langs: list[str], voices: list[torch.Tensor], *,
        readers: list[torch.Tensor] | None = None, prompt: Prompt | None = None, seed: int = 0,
        styles: list[str | None] | None = None,
    ) -> list[Speech]:
        """Text tokens -> speech; with a prompt, all go on in its voice (its own voice vector
        should be among ``voices``). Of several candidates the RM's recogniser chooses.

        readers: voices that the LM reads in, while the FM speaks in ``voices`` (default: these).
        styles: emotion labels to speak in, None for none."""
        for lang in langs:
            if lang not in self.vocab.languages:
                raise UserError(f"language '{lang}' was not trained; "
                                f"languages: {', '.join(self.vocab.languages)}")
        n = self.config.candidates
        tokens = self.sample(texts, langs, readers or voices, prompt, seed, styles)
        scores = self.score(tokens, [t for t in texts for _ in range(n)])
        best = scores.view(len(texts), n).argmin(1).tolist()
        chosen = [tokens[i * n + k] for i, k in enumerate(best)]
        wavs = self.render(chosen, voices, prompt=prompt, seed=seed, styles=styles)
        return [Speech(w, t, float(scores[i * n + k]))
                for i, (w, t, k) in enumerate(zip(wavs, chosen, best, strict=True))]

    def sample(self, texts: list[list[int]], langs: list[str], readers: list[torch.Tensor],
               prompt: Prompt | None, seed: int,
               styles: list[str | None] | None = None) -> list[torch.Tensor]:
        """The LM's ``candidates`` token rows for each text, those of one text side by side."""
        told = prompt.text_ids + self.vocab.space if prompt else []
        text, text_lens = self._padded([torch.tensor(told + t) for t in texts])

        def of_each(row: torch.Tensor | None) -> torch.Tensor | None:
            return None if row is None else row.to(self.device).expand(len(texts), -1)

        tokens = sample_tokens(
            self.system, text, text_lens,
            torch.tensor([self.vocab.languages.index(x) for x in langs], device=self.device),
            torch.stack(readers).to(self.device),
            self.config.sampling, candidates=self.config.candidates,
            spoken_lens=text_lens - len(told),
            style=self.style(styles or [None] * len(texts)),
            generator=self._random(seed), packed=self.packed,
            prompt=of_each(prompt.tokens) if prompt else None,
            prompt_place=of_each(prompt.place) if prompt else None)
        return [t.cpu() if len(t) else torch.zeros(1, dtype=torch.long) for t in tokens]

    @torch.no_grad()
    def score(self, tokens: list[torch.Tensor], texts: list[list[int]]) -> torch.Tensor:
        """How unlike its text the RM finds each token row: nats a text token; inf where the text
        cannot fit into the tokens."""
        index, lens = self._padded(tokens)
        text, text_lens = self._padded([torch.tensor(t) for t in texts])
        q = self.system.tokenizer.embed(index)
        with self._autocast():
            h = self.system.rm.encode(q, lens)
        return self.system.rm.ctc_loss(h.float(), lens, text, text_lens,
                                       impossible=torch.inf).cpu()

    def render(
        self, tokens: list[torch.Tensor], voices: list[torch.Tensor], *,
        prompt: Prompt | None = None, seed: int = 0, styles: list[str | None] | None = None,
    ) -> list[np.ndarray]:
        """Speech tokens and voices -> samples; a prompt's own part is cut off."""
        return self.vocode(*self.decode(tokens, voices, prompt, seed, styles))

    @torch.no_grad()
    def decode(
        self, tokens: list[torch.Tensor], voices: list[torch.Tensor], prompt: Prompt | None,
        seed: int, styles: list[str | None] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Natural-log mel (B, F, M) of tokens by the FM, without the prompt's part, and its
        lengths (B,)."""
        before = len(prompt.tokens) if prompt else 0
        index, lens = self._padded([torch.cat([prompt.tokens, t]) for t in tokens]
                                   if prompt else tokens)
        known = None
        if prompt:
            known = self.system.normalise(prompt.mel.to(self.device)).expand(len(tokens), -1, -1)
        q = self.system.tokenizer.embed(index)
        style = self.style(styles or [None] * len(tokens))
        with self._autocast():
            mel = self.system.fm.sample(
                q, lens, torch.stack(voices).to(self.device), known, style=style,
                flow=self.config.flow, generator=self._random(seed))
        frames = self.audio.frames_per_token
        mel = self.system.denormalise(mel)[:, before * frames :]
        return mel.cpu(), (lens - before).cpu() * frames

    def vocode(self, mel: torch.Tensor, lens: torch.Tensor) -> list[np.ndarray]:
        """Natural-log mel (B, F, M) and its lengths -> samples."""
        wav = self.vocoder.synthesize(mel.to(self.device), lens.to(self.device))
        return [w.numpy() for w in _cut(wav, lens * self.audio.hop_samples)]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16,
                              enabled=self.config.precision == "bf16")

    def _random(self, seed: int) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(seed)

    def _padded(self, rows: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows (T, ...) of any lengths -> one tensor (R, T, ...), zeros behind, and lengths (R,),
        where the nets are."""
        lens = torch.tensor([len(r) for r in rows], device=self.device)
        return pad_sequence(rows, batch_first=True).to(self.device), lens


def _cut(rows: torch.Tensor, lens: torch.Tensor) -> list[torch.Tensor]:
    """(R, T, ...) and lengths (R,) -> the rows without padding, on the CPU."""
    return [row[:n] for row, n in zip(rows.cpu(), lens.tolist(), strict=True)]
