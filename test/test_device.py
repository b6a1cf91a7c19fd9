"""All that meets in training and synthesis is on one device: on a pretended GPU, where none is."""

import copy

import numpy as np
import pytest
import torch
from pretended_gpu import PretendedGPU
from tiny import BANDS, SPEAKER_DIM, make_batch, make_system, sizes, system_config, wake

from e2etts.audio import AudioConfig
from e2etts.data.vocab import Vocab
from e2etts.infer import pipeline
from e2etts.nets.flow import SolverConfig
from e2etts.nets.system import PARTS, StyleConfig, System
from e2etts.nets.vocoder import Vocoder, VocoderConfig
from e2etts.synthesis_config import SamplingConfig, SynthesisConfig
from e2etts.tasks import dpo, first_order, grpo, metrics, second_order
from e2etts.text import TextConfig, TextTokenizer

pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available")


def test_the_pretended_gpu_refuses_what_a_real_one_does():
    with PretendedGPU():
        there, here = torch.ones(2, device="cuda"), torch.ones(2)
        assert there.device.type == "cuda" and (there + 1).device.type == "cuda"
        assert here.device.type == "cpu" and (here + there.cpu()).tolist() == [2.0, 2.0]
        with pytest.raises(RuntimeError, match="on cuda and on cpu meet"):
            there + here
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()


@pytest.mark.parametrize("text_input", ["prefix", "aligned"])
def test_synthesis(text_input, monkeypatch):
    text = TextConfig(phonemes=False)
    tokenizer = TextTokenizer.train(["hello there", "one two three"], text)
    vocab = Vocab(speakers=["a", "b", "c"], languages=["en", "fr"], emotions=["x", "y"],
                  mel_mean=-4.0, mel_std=2.0, text_size=len(tokenizer),
                  space=[tokenizer.encode("a")[0]])
    torch.manual_seed(0)
    system = wake(System(system_config(text_input=text_input, style=StyleConfig()),
                         sizes(text_vocab=len(tokenizer))), std=0.1)
    vocoder = Vocoder(VocoderConfig(dim=16, layers=1), sample_rate_hz=16000, hop_samples=320,
                      mel_bands=BANDS)
    config = SynthesisConfig(candidates=2, solver=SolverConfig(steps=2),
                             sampling=SamplingConfig(max_ratio=1.5))
    # Inference mode knows no tensors that are not its own; without a driver, no random state.
    monkeypatch.setattr(pipeline, "sample_tokens", pipeline.sample_tokens.__wrapped__)
    monkeypatch.setattr(pipeline.Synthesizer, "_random", lambda self, seed: None)
    wav = np.random.default_rng(0).standard_normal(8000).astype(np.float32) * 0.1
    with PretendedGPU():
        speaker = pipeline.Synthesizer(system, vocoder, AudioConfig(mel_bands=BANDS), text,
                                       tokenizer, vocab, config, "cuda")
        assert speaker.system.lm.speech_start.device.type == "cuda"
        texts = [speaker.text_ids(t, "en") for t in ("hello there", "one")]
        embeddings = [speaker.speaker_embedding([wav, wav[:5000]]), torch.ones(SPEAKER_DIM)]
        spoken = [*speaker.speak(texts, ["en", "fr"], embeddings, styles=["x", None]),
                  *speaker.speak(texts, ["en", "fr"], embeddings,
                                 prompt=speaker.prompt(wav, "one two", "en")),
                  *speaker.resynthesize(speaker.encode([wav, wav[:5000]]), embeddings)]
    for speech in spoken:
        assert speech.tokens.device.type == "cpu" and type(speech.tokens) is torch.Tensor
        assert len(speech.wav) == len(speech.tokens) * 640 and np.isfinite(speech.wav).all()


SHORT = SamplingConfig(min_ratio=1.0, max_tokens_per_text_token=2)


@pytest.mark.parametrize("kind", ["first", "second", "grpo", "dpo"])
def test_training(kind, monkeypatch):
    monkeypatch.setattr(metrics, "sample_tokens", metrics.sample_tokens.__wrapped__)
    system = wake(make_system(text_input="aligned", style=StyleConfig()), std=0.1)
    batch = make_batch()
    if kind in ("grpo", "dpo"):
        system.train_only(["lm"])
        task = (grpo.GRPOTask(system, grpo.GRPOOptions(sampling=SHORT, rollout_rows=0.6),
                              set(grpo.GRPOTask.known)) if kind == "grpo" else
                dpo.DPOTask(system, dpo.DPOOptions(sampling=SHORT), set(dpo.DPOTask.known)))
    elif kind == "second":
        system.train_only(["lm", "fm"])
        task = second_order.SecondOrderTask(system, second_order.SecondOrderOptions(group=4),
                                            second_order.LOSSES)
    else:
        system.train_only(list(PARTS))
        losses = {n for names in first_order.READERS.values() for n in names} - {"guide"}  # aligned
        task = first_order.FirstOrderTask(system, first_order.FirstOrderOptions(), losses)
    task.train()
    here = copy.deepcopy(task)
    torch.manual_seed(1)
    want, said = here(batch), here.sample_metrics(batch, 2)
    with PretendedGPU():  # the forward pass: autograd's own threads want a driver
        task.to("cuda")
        torch.manual_seed(1)
        out, spoken = task(batch.to("cuda")), task.sample_metrics(batch.to("cuda"), 2)
        terms = {name: loss.detach().cpu() for name, loss in out.terms.items()}
    assert all(loss.device.type == "cuda" for loss in out.terms.values())
    torch.testing.assert_close(terms, {k: v.detach() for k, v in want.terms.items()},
                               rtol=1e-4, atol=1e-5)
    assert spoken.keys() == said.keys() and said
