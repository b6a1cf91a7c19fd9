"""Well-known implementations on the same shapes as ours: (ours, theirs), each one call.

A peer whose package is not installed is reported as missing, never as slower.
Legend: B rows, T positions.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from torch.utils.data import DataLoader, Dataset

from e2etts.audio import LOG_FLOOR, log_mel
from e2etts.bench.batches import LANGUAGES, TEXT, made_batches, made_vocab
from e2etts.bench.steps import net_step, stage_step
from e2etts.data.batch import Batch
from e2etts.data.datadir import DataDir
from e2etts.data.dataset import MelDataset
from e2etts.data.dump import prepare
from e2etts.data.loader import collate
from e2etts.data.sampler import Element
from e2etts.infer.sampling import sample_tokens
from e2etts.nets.estimator import Condition, Estimator
from e2etts.nets.lm import LM, LMCondition, lm_loss
from e2etts.nets.packed import PackedLM
from e2etts.nets.system import System
from e2etts.nets.transformer import TransformerConfig
from e2etts.nets.vocoder import Vocoder
from e2etts.recipe import RecipeConfig
from e2etts.synthesis_config import SamplingConfig
from e2etts.tasks.build import system_sizes

Run = Callable[[], object]


@dataclass(frozen=True)
class Pair:
    """Two calls that do the same work. training: they are steps of PyTorch's own operations, of
    which a roofline can be made."""

    ours: Run
    theirs: Run
    training: bool = False


def whisper(trunk: TransformerConfig, mel_bands: int, frames_per_token: int, positions: int):
    """transformers' Whisper encoder with the trunk's sizes; the feed-forward of two matrices is
    half as wide again as a gated one of three, for equal parameters. f(rows) -> (B, T, D)."""
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder
    encoder = WhisperEncoder(WhisperConfig(
        d_model=trunk.dim, encoder_layers=trunk.layers, encoder_attention_heads=trunk.heads,
        encoder_ffn_dim=trunk.hidden_dim * 3 // 2, max_source_positions=positions,
        num_mel_bins=mel_bands * frames_per_token // 2, dropout=0.0))
    encoder.train()
    mel = torch.randn(1, encoder.config.num_mel_bins, 2 * positions)
    return encoder, lambda rows: encoder(mel.expand(rows, -1, -1)).last_hidden_state


def qwen3(trunk: TransformerConfig, vocab: int):
    """transformers' Qwen3 with the trunk's sizes."""
    from transformers import Qwen3Config, Qwen3ForCausalLM
    return Qwen3ForCausalLM(Qwen3Config(
        vocab_size=vocab, hidden_size=trunk.dim, num_hidden_layers=trunk.layers,
        num_attention_heads=trunk.heads, num_key_value_heads=trunk.kv_heads or trunk.heads,
        head_dim=trunk.head_dim, intermediate_size=trunk.hidden_dim, rope_theta=trunk.rope_base,
        rms_norm_eps=trunk.norm_eps, tie_word_embeddings=False, bos_token_id=0, eos_token_id=None,
        pad_token_id=0))


def dit(trunk: TransformerConfig, channels: int):
    """The f5-tts package's diffusion transformer with the trunk's sizes."""
    from f5_tts.model.backbones.dit import DiT
    return DiT(dim=trunk.dim, depth=trunk.layers, heads=trunk.heads, dim_head=trunk.head_dim,
               ff_mult=1.5 * trunk.hidden_dim / trunk.dim, mel_dim=channels,
               text_num_embeds=TEXT, text_dim=trunk.dim, dropout=0.0)


def _shape(batch: Batch, recipe: RecipeConfig) -> tuple[int, int]:
    """(B, T) rows and tokens of a batch, its padding included."""
    return len(batch.mel), batch.mel.shape[1] // recipe.audio.frames_per_token


def _batch(recipe: RecipeConfig, stage: str = "tokenizer") -> Batch:
    return made_batches(recipe, stage, 1)[0][0]


def encoder_step(recipe: RecipeConfig) -> Pair:
    """Training step of the tokenizer against Whisper's encoder."""
    audio, config = recipe.audio, recipe.model.tokenizer
    rows, positions = _shape(_batch(recipe), recipe)
    net = config.build(mel_bands=audio.mel_bands, frames_per_token=audio.frames_per_token)
    mel = torch.randn(rows, positions * audio.frames_per_token, audio.mel_bands)
    lens = torch.full((rows,), mel.shape[1])
    peer, encode = whisper(config.encoder, audio.mel_bands, audio.frames_per_token, positions)
    return Pair(net_step(net, lambda: net(mel, lens).q.square().mean()),
                net_step(peer, lambda: encode(rows).square().mean()), training=True)


def _lm(recipe: RecipeConfig) -> LM:
    """Our LM with all its text in front, as the peer has it."""
    model = recipe.model
    tokenizer = model.tokenizer.build(mel_bands=recipe.audio.mel_bands,
                                      frames_per_token=recipe.audio.frames_per_token)
    return LM(replace(model.lm, text_input="prefix", text_stride=0.0), text_vocab=TEXT,
              languages=LANGUAGES, advances=1, speaker_dim=model.speaker.embedding_dim,
              q_dim=model.tokenizer.q_dim, codes=tokenizer.codebook_size,
              digits=tokenizer.digits())


def lm_step(recipe: RecipeConfig) -> Pair:
    """Training step of the LM against Qwen3, on sequences of equal lengths."""
    batch = _batch(recipe)
    rows, positions = _shape(batch, recipe)
    text = batch.text
    net = _lm(recipe)
    lens = torch.full((rows,), positions)
    q = torch.randn(rows, positions, recipe.model.tokenizer.q_dim)
    speaker = torch.randn(rows, recipe.model.speaker.embedding_dim)
    targets = torch.randint(0, net.end, (rows, positions + 1))
    given = LMCondition(text, torch.full((rows,), text.shape[1]), batch.language, speaker)
    peer = qwen3(recipe.model.lm.trunk, net.end + 1)
    before = text.shape[1] + (2 if net.speaker is None else 3)
    ids = torch.randint(0, net.end, (rows, before + positions))
    labels = F.pad(targets, (before - 1, 0), value=-100)
    return Pair(net_step(net, lambda: lm_loss(net(given, q, lens).logits, targets)),
                net_step(peer, lambda: peer(input_ids=ids, labels=labels).loss), training=True)


def lm_decode(recipe: RecipeConfig, rows: int, tokens: int = 100, text: int = 40) -> Pair:
    """Decoding with a cache and nucleus sampling, ``tokens`` tokens a row: float32, but that ours
    keeps its weights in 16 bits. Theirs gains 5 to 15 % from bfloat16."""
    lm = replace(recipe.model.lm, text_input="prefix", text_stride=0.0)
    config = replace(recipe.model, lm=lm)
    system = System(config, system_sizes(recipe, made_vocab())).eval()
    ratio = tokens / text
    sampling = SamplingConfig(min_ratio=ratio, max_ratio=ratio)
    given = LMCondition(torch.randint(0, TEXT, (rows, text)), torch.full((rows,), text),
                        torch.zeros(rows, dtype=torch.long),
                        torch.randn(rows, recipe.model.speaker.embedding_dim))
    packed = PackedLM(system.lm)
    peer = qwen3(config.lm.trunk, system.lm.end + 1).eval()
    ids = torch.randint(0, system.lm.end, (rows, text + 3))
    options = dict(attention_mask=torch.ones_like(ids), max_new_tokens=tokens,
                 min_new_tokens=tokens, do_sample=True, top_k=sampling.top_k,
                 top_p=sampling.top_p, use_cache=True)
    return Pair(lambda: sample_tokens(system, given, sampling, packed=packed),
                lambda: peer.generate(ids, **options))


def fm_step(recipe: RecipeConfig) -> Pair:
    """Training step of the velocity net against F5-TTS's, on the same patches."""
    batch = _batch(recipe)
    trunk, patch = recipe.model.fm.trunk, recipe.model.fm.patch_frames * recipe.audio.mel_bands
    rows, positions = len(batch.mel), batch.mel.shape[1] // recipe.model.fm.patch_frames
    x, target = torch.randn(2, rows, positions, patch)
    time, lens = torch.rand(rows), torch.full((rows,), positions)
    speaker_dim = recipe.model.speaker.embedding_dim
    condition = Condition(torch.randn(rows, positions, trunk.dim + patch),
                          torch.randn(rows, speaker_dim))
    net = Estimator(trunk, channels=patch, condition=trunk.dim + patch,
                    speaker_dim=speaker_dim)
    peer = dit(trunk, patch)
    ids = torch.randint(0, TEXT, (rows, positions))
    return Pair(
        net_step(net, lambda: F.mse_loss(net(x, time, condition, lens).float(), target)),
        net_step(peer, lambda: F.mse_loss(peer(x, target, ids, time).float(), target)),
        training=True)


def joint_step(recipe: RecipeConfig) -> Pair:
    """The whole first-order step against one put together from peers of the same sizes: Whisper
    encoders as tokenizer and RM, Qwen3 as LM, F5-TTS's net as FM (with the layers of our FM's
    encoder), each with its own backward pass and optimiser. They have no speaker encoder, no
    quantiser, no clipping and no weight averaging, which is in their favour."""
    batches = made_batches(recipe, "tokenizer", 3)[0]
    model, audio = recipe.model, recipe.audio
    patch = model.fm.patch_frames * audio.mel_bands
    fm_trunk = replace(model.fm.trunk, layers=model.fm.trunk.layers + model.fm.encoder_layers)
    codes = _lm(recipe).end + 1
    lm, fm = qwen3(model.lm.trunk, codes), dit(fm_trunk, patch)
    runs = []
    for batch in batches:
        rows, positions = _shape(batch, recipe)
        length = positions + batch.text.shape[1] + 3
        ids = torch.randint(0, codes, (rows, length))
        patches = batch.mel.shape[1] // model.fm.patch_frames
        x, target = torch.randn(2, rows, patches, patch)
        text, time = torch.randint(0, TEXT, (rows, patches)), torch.rand(rows)
        for trunk in (model.tokenizer.encoder, model.rm.trunk):
            peer, encode = whisper(trunk, audio.mel_bands, audio.frames_per_token, positions)
            runs.append(net_step(
                peer, lambda encode=encode, rows=rows: encode(rows).square().mean()))
        runs.append(net_step(lm, lambda ids=ids: lm(input_ids=ids, labels=ids).loss))
        runs.append(net_step(fm, lambda x=x, target=target, text=text, time=time: F.mse_loss(
            fm(x, target, text, time).float(), target)))
    return Pair(stage_step(recipe, "tokenizer").run, lambda: [run() for run in runs], training=True)


def vocoder(recipe: RecipeConfig, spectrum: str, seconds: float = 5.0) -> Pair:
    """Mel to waveform against the vocos package: blocks of equal number, width and frame rate.
    spectrum "phase" does what vocos does; "harmonic" also predicts pitch and makes the pulses."""
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone
    audio, config = recipe.audio, replace(recipe.vocoder, spectrum=spectrum)
    frames = int(seconds * audio.frame_rate_hz)
    mel = torch.randn(1, frames, audio.mel_bands) - 5
    net = Vocoder(config, sample_rate_hz=audio.sample_rate_hz, hop_samples=audio.hop_samples,
                  mel_bands=audio.mel_bands).eval()
    body = VocosBackbone(audio.mel_bands, config.dim, config.dim * config.hidden_multiplier,
                         config.layers).eval()
    head = ISTFTHead(config.dim, config.fft_samples, net.fine_hop_samples).eval()
    fine = mel.repeat_interleave(config.frame_split, dim=1).transpose(1, 2)

    @torch.no_grad()
    def theirs():
        return head(body(fine))
    return Pair(lambda: net.synthesize(mel), theirs)


def _wav(recipe: RecipeConfig, seconds: float = 10.0) -> torch.Tensor:
    return 0.1 * torch.randn(int(seconds * recipe.audio.sample_rate_hz))


def log_mel_torchaudio(recipe: RecipeConfig) -> Pair:
    """Log-mel of 10 s against torchaudio's transform."""
    audio, wav = recipe.audio, _wav(recipe)
    mel = torchaudio.transforms.MelSpectrogram(
        audio.sample_rate_hz, audio.window_samples, hop_length=audio.hop_samples, power=1.0,
        f_min=audio.mel_low_hz, f_max=audio.mel_high_hz, n_mels=audio.mel_bands, norm="slaney",
        mel_scale="slaney")
    return Pair(lambda: log_mel(wav, audio), lambda: mel(wav).clamp_min(LOG_FLOOR).log())


def log_mel_librosa(recipe: RecipeConfig) -> Pair:
    """Log-mel of 10 s against librosa's."""
    import librosa
    audio, wav = recipe.audio, _wav(recipe)
    array = wav.numpy()
    return Pair(lambda: log_mel(wav, audio), lambda: np.log(np.maximum(
        librosa.feature.melspectrogram(
            y=array, sr=audio.sample_rate_hz, n_fft=audio.window_samples, power=1.0,
            hop_length=audio.hop_samples, n_mels=audio.mel_bands, fmin=audio.mel_low_hz,
            fmax=audio.mel_high_hz), LOG_FLOOR)))


class _Wavs(Dataset):
    """What most recipes do: read a wav, compute its log-mel."""

    def __init__(self, paths: list[Path], recipe: RecipeConfig):
        self.paths, self.audio = paths, recipe.audio

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> torch.Tensor:
        wav, _ = soundfile.read(str(self.paths[i]), dtype="float32")
        return log_mel(torch.from_numpy(wav), self.audio)


def input_pipeline(recipe: RecipeConfig, utterances: int = 48, rows: int = 8) -> Pair:
    """Batches from a prepared set against a DataLoader over wav files, both in this process."""
    folder = tempfile.TemporaryDirectory(prefix="e2etts-bench-")
    root, random, data = Path(folder.name), np.random.default_rng(0), DataDir({}, {}, {}, {}, {})
    for i in range(utterances):
        utt, path = f"s-{i:03d}", root / f"{i:03d}.wav"
        seconds = random.uniform(1.5, 4.0)
        soundfile.write(str(path), 0.1 * random.standard_normal(
            int(seconds * recipe.audio.sample_rate_hz)), recipe.audio.sample_rate_hz, "PCM_16")
        data.wav[utt], data.text[utt] = str(path), "one two three four"
        data.utt2lang[utt], data.utt2spk[utt] = "en", "s"
    data.save(root / "data" / "train")
    prepare(root / "data", root / "dump", train="train", sets=["train"], audio=recipe.audio,
            text=replace(recipe.text, phonemes=False), workers=1)
    ready = MelDataset(root / "dump" / "train", recipe.audio)
    order = [list(range(i, min(i + rows, utterances))) for i in range(0, utterances, rows)]
    plain = DataLoader(_Wavs([Path(data.wav[u]) for u in ready.utts], recipe), batch_sampler=order,
                       collate_fn=lambda mels: torch.nn.utils.rnn.pad_sequence(
                           mels, batch_first=True))

    def ours(kept=folder):  # the folder lives as long as the case
        return [collate([ready[Element((i,), i)] for i in some]) for some in order]
    return Pair(ours, lambda: list(plain))


# Name -> (what makes the pair, the peer's name, how to get it).
PAIRS: dict[str, tuple[Callable[[RecipeConfig], Pair], str, str]] = {
    "joint_step": (joint_step, "transformers and f5-tts, put together",
                   "pip install transformers f5-tts"),
    "encoder_step": (encoder_step, "transformers WhisperEncoder", "pip install transformers"),
    "lm_step": (lm_step, "transformers Qwen3ForCausalLM", "pip install transformers"),
    "lm_decode_1": (lambda r: lm_decode(r, 1), "transformers generate", "pip install transformers"),
    "lm_decode_16": (lambda r: lm_decode(r, 16), "transformers generate",
                     "pip install transformers"),
    "fm_step": (fm_step, "f5-tts DiT", "pip install f5-tts"),
    "vocoder": (lambda r: vocoder(r, "phase"), "vocos", "pip install vocos"),
    "vocoder_harmonic": (lambda r: vocoder(r, "harmonic"), "vocos, which makes no pulses",
                         "pip install vocos"),
    "log_mel_torchaudio": (log_mel_torchaudio, "torchaudio MelSpectrogram", ""),
    "log_mel_librosa": (log_mel_librosa, "librosa melspectrogram", "pip install librosa"),
    "input_pipeline": (input_pipeline, "DataLoader over wav files", ""),
}
