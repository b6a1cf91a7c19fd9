"""What the stages of egs/mini's experiment teach, with its weights and tiny nets."""

from pathlib import Path

import pytest
from tiny import make_batch, reached, wake

from e2etts.ablation.experiment import load_experiment
from e2etts.data.vocab import Vocab
from e2etts.nets.system import PARTS
from e2etts.tasks.build import build_task
from e2etts.train.config import weight_at

TINY = ["audio.mel_bands=6", "model.tokenizer.levels=[4,3,3]", "model.tokenizer.q_dim=10",
        "model.speaker={embedding_dim: 8, dim: 12}",
        *(f"model.{net}={{dim: 16, layers: 1, heads: 2, hidden_dim: 16}}"
          for net in ("tokenizer.encoder", "lm.trunk", "fm.trunk", "rm.trunk"))]
PLAN = load_experiment(Path(__file__).resolve().parents[2] / "egs/mini/conf/ablation.yaml", TINY)
STAGES = {f"{run.system}-{unit.stage}": (run, unit) for run in PLAN.runs if run.seed == 0
          for unit in run.units if unit.stage != "vocoder"}
VOCAB = Vocab(speakers=["a", "b", "c"], languages=["en", "fr"], emotions=[], mel_mean=-4.0,
              mel_std=2.0, text_size=9, space=[])


def gradient_parts(name: str, progress: float) -> set[str]:
    """Parts that a step of a stage teaches at that progress."""
    run, unit = STAGES[name]
    task = build_task(run.recipe, unit.stage, VOCAB)
    wake(task.system, std=0.1)
    now = {k: weight_at(w, progress) for k, w in unit.config.weights.items()}
    task.train().muted = frozenset(k for k, w in now.items() if not w)
    sum(now[k] * v for k, v in task(make_batch()).terms.items()).backward()
    return {part for part in PARTS if reached(getattr(task.system, part))}


@pytest.mark.parametrize("name", [
    "joint-tokenizer", "lm_cut-tokenizer", "fm_cut-tokenizer", "both_cut-tokenizer",
    "cascade_rm-tokenizer", "cascade_rm-fm", "cascade_rm-lm", "cascade_coarse-tokenizer",
    "fixed_weights-tokenizer", "no_flow-tokenizer", "no_coarse-tokenizer", "joint-lm", "joint-fm",
    "joint-rm", "joint-joint", "no_samples-joint"])
def test_a_stage_teaches_exactly_the_parts_it_names(name):
    assert gradient_parts(name, 1.0) == set(STAGES[name][1].config.trainable)


def test_the_lm_of_stage_1_is_taught_from_its_delay_on():
    joins = STAGES["joint-tokenizer"][1].config.weights["lm"].delay
    assert gradient_parts("joint-tokenizer", joins - 0.01) == set(PARTS) - {"lm"}
    assert gradient_parts("joint-tokenizer", joins + 0.01) == set(PARTS)


def gradient_at_encoder(name: str, *losses: str) -> float:
    """Size of the gradient that these losses of a system's stage 1 give the tokenizer's encoder."""
    run, unit = STAGES[f"{name}-tokenizer"]
    task = build_task(run.recipe, unit.stage, VOCAB)
    wake(task.system, std=0.1)
    terms = task.train()(make_batch()).terms
    sum(terms[k] for k in losses).backward()
    return sum(float(p.grad.abs().sum()) for p in task.system.tokenizer.encoder.parameters()
               if p.grad is not None)


def test_the_cut_systems_differ_in_what_reaches_the_tokenizer():
    for name, cut in (("joint", ()), ("lm_cut", ("lm",)), ("fm_cut", ("fm", "coarse")),
                      ("both_cut", ("lm", "fm", "coarse"))):
        for loss in ("lm", "fm", "coarse", "ctc"):
            assert (gradient_at_encoder(name, loss) == 0) == (loss in cut), (name, loss)
