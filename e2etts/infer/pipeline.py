"""From text to wav with a trained system: text, LM, RM that ranks samples, FM, vocoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from e2etts.audio import AudioConfig, log_mel
from e2etts.config import build
from e2etts.data.batch import MEL_PADDING
from e2etts.data.vocab import Vocab
from e2etts.errors import UserError
from e2etts.infer.sampling import TokenPrompt, sample_tokens
from e2etts.nets.lm import LMCondition
from e2etts.nets.packed import PackedLM
from e2etts.nets.system import Sizes, System, SystemConfig
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.synthesis_config import SynthesisConfig
from e2etts.text import TextConfig, TextTokenizer, normalise, phonemise
from e2etts.train.checkpoint import load_checkpoint, restore


@dataclass(frozen=True)
class Prompt:
    """A voice prompt: tokens (P,) and natural-log mel (F, M) of a recording, ids of its text, and
    the text position (P,) of each token for an LM with aligned text_input."""

    tokens: torch.Tensor
    position: torch.Tensor | None
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
    stored = meta["config"]
    if "model" not in stored:
        raise UserError(f"{checkpoint}: holds no system, but {', '.join(sorted(stored))}: name a "
                        "stage that trains one")
    system = System(build(SystemConfig, stored["model"], "model"), Sizes(**stored["sizes"]))
    restore(system, tensors, str(checkpoint))
    return system.eval(), meta


class Synthesizer:
    """A trained system with its vocoder, text front end and labels.

    The nets are on ``device``; speech, tokens, embeddings and mels go in and come out on the CPU.
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
        GPU where there is one by default.

        Raises UserError for a missing or damaged file, or one that does not fit the others.
        """
        net, meta = load_system(system)
        stored = meta["config"]
        vocoder_tensors, vocoder_meta = load_checkpoint(vocoder)
        if vocoder_meta["config"]["audio"] != stored["audio"]:
            raise UserError(f"{vocoder}: made for other audio settings than {system}: "
                            "train both with one configuration")
        audio = build(AudioConfig, stored["audio"], "audio")
        voc = Vocoder(build(VocoderConfig, vocoder_meta["config"]["vocoder"], "vocoder"),
                      sample_rate_hz=audio.sample_rate_hz, hop_samples=audio.hop_samples,
                      mel_bands=audio.mel_bands)
        restore(voc, vocoder_tensors, str(vocoder))
        vocab = Vocab.load(dump)
        text_vocab = stored["sizes"]["text_vocab"]
        if vocab.text_size != text_vocab:
            raise UserError(f"{dump}/vocab.json: {vocab.text_size} text tokens, {system} was "
                            f"trained with {text_vocab}: prepare and train again")
        text = build(TextConfig, stored["text"], "text")
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
    def speaker_embedding(self, wavs: list[np.ndarray]) -> torch.Tensor:
        """Mean embedding (X,) of recordings of one speaker, of length 1."""
        each = self.system.speaker_embedding(*self._padded([self.mel(w) for w in wavs]))
        return torch.nn.functional.normalize(each.mean(0), dim=0).cpu()

    @torch.no_grad()
    def encode(self, wavs: list[np.ndarray]) -> list[torch.Tensor]:
        """Speech tokens (T,) of each recording.

        Raises UserError for a system whose tokens come from files."""
        if self.system.tokenizer.reads_codes:
            raise UserError("the tokens of this system come from files (model.tokenizer.kind: "
                            "codes): it cannot encode a recording; encode it with the tokenizer "
                            "that made them")
        tokens = self.system.encode(*self._padded([self.mel(w) for w in wavs]))
        return _cut(tokens.index, tokens.lens)

    @torch.no_grad()
    def prompt(self, wav: np.ndarray, text: str, lang: str) -> Prompt:
        """A voice prompt from a recording and its text."""
        return self.prompt_of(self.encode([wav])[0], self.mel(wav), self.text_ids(text, lang))

    @torch.no_grad()
    def prompt_of(self, tokens: torch.Tensor, mel: torch.Tensor, text_ids: list[int]) -> Prompt:
        """A voice prompt from tokens (P,) and mel (F, M) of a recording."""
        frames = len(tokens) * self.audio.frames_per_token
        mel = torch.nn.functional.pad(mel, (0, 0, 0, max(0, frames - len(mel))),
                                      value=MEL_PADDING)[:frames]
        index, lens = self._padded([tokens])
        position = self.system.text_positions(self.system.tokenizer.embed(index), lens,
                                              *self._padded([torch.tensor(text_ids)]))
        return Prompt(tokens, None if position is None else position[0].cpu(), mel, text_ids)

    def style_ids(self, names: list[str | None]) -> torch.Tensor | None:
        """(R,) style ids of labels where the nets are, None for no style; None for a system
        without styles.

        Raises UserError for a style that the system does not have."""
        wanted = next((n for n in names if n is not None), None)
        if self.system.config.style is None:
            if wanted is not None:
                raise UserError(f"style '{wanted}': this system was trained without styles: set "
                                "model.style and train on data with utt2emo")
            return None
        known = self.vocab.emotions
        wrong = next((n for n in names if n is not None and n not in known), None)
        if wrong is not None:
            raise UserError(f"no style '{wrong}'; styles: {', '.join(known)}")
        return torch.tensor([0 if n is None else known.index(n) + 1 for n in names],
                            device=self.device)

    def revocode(self, wavs: list[np.ndarray]) -> list[Speech]:
        """The mels of recordings (S,) through the vocoder alone: what it costs to leave samples for
        mels. Without tokens."""
        mels = [self.mel(w) for w in wavs]
        lens = torch.tensor([len(m) for m in mels])
        padded = pad_sequence(mels, batch_first=True, padding_value=MEL_PADDING)
        return [Speech(w, torch.zeros(0, dtype=torch.long)) for w in self.vocode(padded, lens)]

    def resynthesize(
        self, tokens: list[torch.Tensor], speakers: list[torch.Tensor], seed: int = 0,
        styles: list[str | None] | None = None,
    ) -> list[Speech]:
        """Copy synthesis: tokens of recordings through FM and vocoder."""
        wavs = self.render(tokens, speakers, seed=seed, styles=styles)
        return [Speech(w, t) for w, t in zip(wavs, tokens, strict=True)]

    @torch.no_grad()
    def speak(
        self, texts: list[list[int]], langs: list[str], speakers: list[torch.Tensor], *,
        lm_speakers: list[torch.Tensor] | None = None, prompt: Prompt | None = None, seed: int = 0,
        styles: list[str | None] | None = None,
    ) -> list[Speech]:
        """Text tokens -> speech; with a prompt, all continue it (its own speaker embedding should
        be among ``speakers``). Of several candidates the RM chooses.

        speakers: embeddings (X,); lm_speakers: others that the LM is conditioned on, while the FM
        renders ``speakers`` (default: these). styles: emotion labels, None for none."""
        for lang in langs:
            if lang not in self.vocab.languages:
                raise UserError(f"language '{lang}' was not trained; "
                                f"languages: {', '.join(self.vocab.languages)}")
        n = self.config.candidates
        tokens = self.sample(texts, langs, lm_speakers or speakers, prompt, seed, styles)
        scores = self.score(tokens, [t for t in texts for _ in range(n)])
        best = scores.view(len(texts), n).argmin(1).tolist()
        chosen = [tokens[i * n + k] for i, k in enumerate(best)]
        wavs = self.render(chosen, speakers, prompt=prompt, seed=seed, styles=styles)
        return [Speech(w, t, float(scores[i * n + k]))
                for i, (w, t, k) in enumerate(zip(wavs, chosen, best, strict=True))]

    def sample(self, texts: list[list[int]], langs: list[str], speakers: list[torch.Tensor],
               prompt: Prompt | None, seed: int,
               styles: list[str | None] | None = None) -> list[torch.Tensor]:
        """The LM's ``candidates`` token rows for each text, those of one text side by side."""
        before = prompt.text_ids + self.vocab.space if prompt else []
        text, text_lens = self._padded([torch.tensor(before + t) for t in texts])
        languages = torch.tensor([self.vocab.languages.index(x) for x in langs],
                                 device=self.device)
        given = LMCondition(text, text_lens, languages, torch.stack(speakers).to(self.device),
                            self.style_ids(styles or [None] * len(texts)))
        tokens = sample_tokens(
            self.system, given, self.config.sampling, candidates=self.config.candidates,
            prompt=prompt and TokenPrompt(prompt.tokens, prompt.position, len(before)),
            generator=self._random(seed), packed=self.packed)
        return [t.cpu() if len(t) else torch.zeros(1, dtype=torch.long) for t in tokens]

    @torch.no_grad()
    def score(self, tokens: list[torch.Tensor], texts: list[list[int]]) -> torch.Tensor:
        """CTC loss of each token row given its text, by the RM: nats a text token; inf where the
        text cannot fit into the tokens."""
        index, lens = self._padded(tokens)
        text, text_lens = self._padded([torch.tensor(t) for t in texts])
        q = self.system.tokenizer.embed(index)
        with self._autocast():
            h = self.system.rm.encode(q, lens)
        return self.system.rm.ctc_loss(h.float(), lens, text, text_lens,
                                       impossible=torch.inf).cpu()

    def render(
        self, tokens: list[torch.Tensor], speakers: list[torch.Tensor], *,
        prompt: Prompt | None = None, seed: int = 0, styles: list[str | None] | None = None,
    ) -> list[np.ndarray]:
        """Speech tokens and speaker embeddings -> samples; a prompt's own part is cut off."""
        return self.vocode(*self.decode(tokens, speakers, prompt, seed, styles))

    @torch.no_grad()
    def decode(
        self, tokens: list[torch.Tensor], speakers: list[torch.Tensor], prompt: Prompt | None,
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
        style = self.style_ids(styles or [None] * len(tokens))
        with self._autocast():
            mel = self.system.fm.sample(
                q, lens, torch.stack(speakers).to(self.device), known, style=style,
                solver=self.config.solver, generator=self._random(seed))
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
