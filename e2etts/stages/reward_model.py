"""The reward model measured alone (e2etts score-rm): recognition from the tokens of recordings, and
speaker verification."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from e2etts.data.batch import Batch
from e2etts.data.dataset import DataConfig, MelDataset
from e2etts.data.loader import dev_batches
from e2etts.data.noise import NoiseConfig
from e2etts.data.vocab import Vocab
from e2etts.infer.pipeline import load_system
from e2etts.nets.system import System
from e2etts.recipe import RecipeConfig
from e2etts.score.error_rates import (
    Errors,
    error_rates,
    errors_between,
    mean_interval,
    rate_interval,
)
from e2etts.stages.start import model_config, require_fit
from e2etts.text import PUNCTUATION, TextTokenizer

BATCH_SECONDS = 60.0
DECODERS = ("ctc", "attention")
MOST_TRIAL_UTTS = 400  # 79,800 pairs


@dataclass
class Recognised:
    """Output of the RM for one utterance: errors by decoder, (true, recognised) emotion and speaker
    where the label is known, recognised None where the RM has no classes, and
    ``RM.speaker_vector``."""

    set: str
    errors: dict[str, Errors] = field(default_factory=dict)
    emotion: tuple[str, str] | None = None
    speaker: tuple[str, str | None] | None = None
    embedding: np.ndarray | None = None


def summarise_rm(found: list[Recognised], samples: int, seed: int) -> dict[str, Any]:
    """{"sets": {set: numbers}, "speaker": verification over all sets, or None}."""
    names = sorted({r.set for r in found})
    sets = {name: _numbers([r for r in found if r.set == name], samples, seed) for name in names}
    if len(names) > 1:
        sets["all"] = _numbers(found, samples, seed)
    known = [(r.speaker[0], r.embedding) for r in found if r.speaker and r.embedding is not None]
    return {"sets": sets, "speaker": verification(
        [s for s, _ in known], [v for _, v in known], samples, seed)}


def _numbers(found: list[Recognised], samples: int, seed: int) -> dict[str, Any]:
    out: dict[str, Any] = {"n": len(found)}
    for decoder in DECODERS:
        errors = [r.errors[decoder] for r in found if decoder in r.errors]
        if errors:
            wer, cer = error_rates(errors)
            out[decoder] = {"wer": wer, "wer_ci": rate_interval(errors, samples, seed),
                           "cer": cer, "words": sum(e.words for e in errors)}
    for task in ("emotion", "speaker"):
        pairs = [p for p in (getattr(r, task) for r in found) if p and p[1] is not None]
        if pairs:
            right = [float(true == got) for true, got in pairs]
            recalls = [np.mean([r for r, (t, _) in zip(right, pairs, strict=True) if t == true])
                       for true in sorted({t for t, _ in pairs})]
            out[task] = {"accuracy": float(np.mean(right)), "labelled": len(pairs),
                         "accuracy_ci": mean_interval(right, samples, seed),
                         "mean_recall": float(np.mean(recalls)), "classes": len(recalls)}
    return out


def verification(speakers: list[str], embeddings: list[np.ndarray], samples: int,
                 seed: int) -> dict[str, Any] | None:
    """Equal error rate of the cosine between two utterances as evidence for one speaker, over all
    pairs (of at most MOST_TRIAL_UTTS utterances, evenly spread), with a 95 % bootstrap interval
    over utterances. None where there are no pairs of one, or of two speakers."""
    step = max(1, -(-len(speakers) // MOST_TRIAL_UTTS))
    speakers, embeddings = speakers[::step], embeddings[::step]
    if len(set(speakers)) < 2 or len(set(speakers)) == len(speakers):
        return None
    unit = np.stack([v / np.linalg.norm(v) for v in embeddings])
    i, j = np.triu_indices(len(unit), 1)
    score = (unit[i] * unit[j]).sum(1)
    same = np.array(speakers)[i] == np.array(speakers)[j]
    order = np.argsort(score, kind="stable")
    i, j, score, same = i[order], j[order], score[order], same[order]
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(samples):
        times = np.bincount(random.integers(0, len(unit), len(unit)), minlength=len(unit))
        weight = (times[i] * times[j]).astype(float)
        if weight[same].sum() and weight[~same].sum():
            drawn.append(equal_error_rate(score, same, weight))
    return {"eer": equal_error_rate(score, same, np.ones(len(score))),
            "eer_ci": [float(v) for v in np.percentile(drawn, [2.5, 97.5])],
            "utterances": len(unit), "speakers": len(set(speakers)),
            "same": int(same.sum()), "different": int((~same).sum())}


def equal_error_rate(score: np.ndarray, same: np.ndarray, weight: np.ndarray) -> float:
    """Where the false rejection rate, of pairs of one speaker, equals the false acceptance rate, of
    pairs of two. score: (P,) in rising order; same: (P,) bool; weight: (P,). Pairs of equal score
    are accepted or rejected together."""
    last = np.append(score[1:] != score[:-1], True)
    rejected = np.cumsum(weight * same)[last] / (weight * same).sum()
    accepted = 1 - np.cumsum(weight * ~same)[last] / (weight * ~same).sum()
    rejected, accepted = np.append(0.0, rejected), np.append(1.0, accepted)
    k = int(np.argmax(rejected >= accepted))
    # The curves are straight between thresholds; they cross where their difference is zero.
    gap = accepted[k - 1 : k + 1] - rejected[k - 1 : k + 1]
    share = gap[0] / (gap[0] - gap[1])
    return float(rejected[k - 1] + share * (rejected[k] - rejected[k - 1]))


def text_errors(reference: str, hypothesis: str) -> Errors | None:
    """Errors between two texts of the text front end, without punctuation. Words are
    separated by spaces; they are phonemes where the front end makes phonemes."""
    want, got = ("".join(" " if c in PUNCTUATION else c for c in t).split()
                 for t in (reference, hypothesis))
    return errors_between(want, got)


def measure_reward_model(recipe: RecipeConfig, folder: Path, stage: str,
                         done: Callable[[str, dict[str, Any]], None]) -> dict[str, Any]:
    """{condition: ``summarise_rm``} on all test sets, clean and with the noise of
    ``score.rm_snr_db``. folder: checkpoint of ``stage``; done: called after each condition.

    Raises UserError for a checkpoint or prepared set that is missing.
    """
    dump = Path(recipe.corpus.dump_dir)
    vocab, tokenizer = Vocab.load(dump), TextTokenizer.load(dump / "text.model")
    wanted = model_config(recipe, stage, vocab)
    system, meta = load_system(folder)
    require_fit(meta["config"], wanted, ("tokenizer", "rm"), str(folder))
    noises = {f"{snr:g} dB": NoiseConfig(probability=1.0, snr_db=(snr, snr))
              for snr in recipe.score.rm_snr_db}
    conditions = {}
    for name, noise in {"clean": None, **noises}.items():
        found = [r for test in recipe.corpus.tests
                 for r in _recognise_set(system, recipe, test, vocab, tokenizer, noise)]
        conditions[name] = summarise_rm(found, recipe.score.bootstrap_samples, recipe.score.seed)
        done(name, conditions[name])
    return conditions


def _recognise_set(system: System, recipe: RecipeConfig, name: str, vocab: Vocab,
                   tokenizer: TextTokenizer, noise: NoiseConfig | None) -> list[Recognised]:
    dataset = MelDataset(recipe.dump(name), recipe.audio, vocab=vocab, codes=recipe.codes,
                         config=DataConfig(noise=noise))
    return [r for batch in tqdm(dev_batches(dataset, BATCH_SECONDS)(), desc=f"rm {name}",
                                unit="batch")
            for r in recognise(system, batch, name, vocab, tokenizer)]


@torch.no_grad()
def recognise(system: System, batch: Batch, name: str, vocab: Vocab,
              tokenizer: TextTokenizer) -> list[Recognised]:
    """Output of the RM for each row of a batch of set ``name``."""
    rm, tokens = system.rm, system.encode(batch.mel, batch.mel_lens, batch.codes)
    h = rm.encode(tokens.q, tokens.lens)
    texts = {"ctc": rm.read_ctc(h, tokens.lens)}
    if rm.decoder is not None:
        # No text is longer than the number of CTC labels.
        longest = tokens.lens * rm.config.labels_per_token
        texts["attention"] = rm.read_attention(h, tokens.lens, longest)
    out = [Recognised(name) for _ in batch.utts]
    for row, found in enumerate(out):
        reference = tokenizer.decode(batch.text[row, : batch.text_lens[row]].tolist())
        errors = {k: text_errors(reference, tokenizer.decode(v[row].tolist()))
                  for k, v in texts.items()}
        found.errors = {k: e for k, e in errors.items() if e is not None}
    for task, names, labels in (("emotion", vocab.emotions, batch.emotion),
                                ("speaker", vocab.speakers, batch.speaker)):
        if task not in rm.heads:
            continue
        guesses: list[str | None] = [None] * len(out)
        if rm.classifies(task):
            best = rm.classify(task, h, tokens.lens).argmax(-1)
            guesses = [names[i] for i in best.tolist()]
        for found, label, got in zip(out, labels.tolist(), guesses, strict=True):
            if label >= 0:
                setattr(found, task, (names[label], got))
    if "speaker" in rm.heads:
        embeddings = rm.speaker_vector(h, tokens.lens).float().numpy()
        for found, embedding in zip(out, embeddings, strict=True):
            found.embedding = embedding
    return out
