"""Checkpoints and configurations of earlier versions load for ever.

test/fixtures holds those of format 2, as they were written then: never write them anew.
"""

from pathlib import Path

import torch
from tiny import make_batch

from e2etts.config import build
from e2etts.data.vocab import Vocab
from e2etts.infer.pipeline import load_system
from e2etts.nets.system import PARTS
from e2etts.recipe import RecipeConfig, load_recipe
from e2etts.stages.start import model_config, require_fit, starting_point

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
VOCAB = Vocab(speakers=["a", "b", "c"], languages=["en", "fr"], emotions=["x", "y"],
              mel_mean=-4.0, mel_std=2.0, text_size=9, space=[])


@torch.no_grad()
def test_a_checkpoint_of_format_2_gives_what_it_gave():
    system, meta = load_system(FIXTURES / "system")
    batch = make_batch()
    tokens = system.encode(batch.mel, batch.mel_lens)
    assert meta["step"] == 7
    assert tokens.index[0].tolist() == [2, 35, 35, 35, 23, 23, 13, 23, 19, 35, 35, 21]
    speaker = system.speaker_embedding(batch.reference_mel, batch.reference_lens)
    position = system.text_positions(tokens.q, tokens.lens, batch.text, batch.text_lens)
    out = system.lm(system.lm_condition(batch, speaker), tokens.q, tokens.lens, position)
    mel = system.fm.sample(tokens.q, tokens.lens, speaker,
                           generator=torch.Generator().manual_seed(0))
    ctc = system.rm.ctc_logits(system.rm.encode(tokens.q, tokens.lens))
    for got, want in ((out.logits, [-3.74595, -2.70981, -2.33221]),
                      (mel, [0.21592, -1.02549, 2.45302]), (ctc, [0.68295, -0.81573, -0.85894])):
        torch.testing.assert_close(got[0, 0, :3], torch.tensor(want), atol=1e-3, rtol=1e-3)


def test_a_stage_starts_from_checkpoints_of_format_2(tmp_path):
    trunk = {"dim": 16, "layers": 2, "heads": 2, "kv_heads": 1, "head_dim": 8, "hidden_dim": 24}
    first = {"task": "first_order", "train": {"max_steps": 1}}
    recipe = build(RecipeConfig, {
        "corpus": {}, "audio": {"mel_bands": 6}, "text": {"phonemes": False},
        "vocoder": {"dim": 16, "layers": 1},
        "model": {"tokenizer": {"encoder": trunk, "levels": [4, 3, 3], "q_dim": 10},
                  "lm": {"trunk": trunk, "text_input": "aligned", "text_encoder_layers": 1},
                  "fm": {"trunk": trunk, "encoder_layers": 1},
                  "rm": {"trunk": trunk, "decoder_layers": 1},
                  "speaker": {"embedding_dim": 8, "dim": 12, "dilations": [1, 2]}},
        "stages": {
            "lm": {**first, "init": str(FIXTURES / "system"), "trainable": ["lm"],
                   "weights": {"lm": 1, "advance": 1}},
            "vocoder": {"task": "vocoder", "init": str(FIXTURES / "vocoder"),
                        "weights": {"mel": 1}, "train": {"max_steps": 1}}}})
    start = starting_point(recipe, "lm", tmp_path, VOCAB)
    assert set(start.origin) == set(PARTS) and start.tensors
    assert starting_point(recipe, "vocoder", tmp_path, VOCAB).tensors


def test_options_added_since_have_their_defaults():
    """Deleting a key from what is stored is what adding an option to the program looks like."""
    _, meta = load_system(FIXTURES / "system")
    stored = meta["config"]
    for path in (("model", "lm", "text_stride"), ("model", "rm", "labels_per_token"),
                 ("audio", "mel_low_hz"), ("model", "style")):
        older = {k: dict(v) for k, v in stored.items()}
        section = older
        for key in path[:-1]:
            section[key] = dict(section[key])
            section = section[key]
        del section[path[-1]]
        require_fit(older, stored, PARTS, "here")


def test_a_configuration_of_format_2_is_still_read():
    recipe = load_recipe(FIXTURES / "recipe.yaml")
    assert recipe.training_order() == ["vocoder", "tokenizer", "lm", "fm", "rm", "joint"]
    assert set(model_config(recipe, "joint", VOCAB)) == {"audio", "text", "model", "sizes"}
