"""An experiment in a made recipe folder, and commands that only leave what real ones do."""

import json
from pathlib import Path

import yaml

from e2etts.ablation.experiment import Experiment, load_experiment

STAGE = {"task": "first_order", "train": {"max_audio_seconds": 600, "batch_seconds": 6}}
RECIPE = {
    "seed": 5,
    "corpus": {"tests": ["test_en"], "sentences": ["sentences_en"]},
    "stages": {
        "vocoder": {"task": "vocoder", "weights": {"mel": 1.0}, "train": {"max_steps": 4}},
        "tokenizer": {**STAGE, "trainable": ["tokenizer", "lm", "fm", "rm", "speaker"],
                      "weights": {"lm": 0.1, "fm": 1.0, "ctc": 1.0}},
        "lm": {**STAGE, "init": "tokenizer", "trainable": ["lm"], "weights": {"lm": 1.0}},
        "joint": {**STAGE, "task": "second_order", "init": "lm", "trainable": ["lm"],
                  "weights": {"ce": 1.0, "ctc": 1.0}}}}
ABLATION = {
    "recipe": "recipe.yaml", "seeds": [0, 1],
    "systems": {
        "cascade": {"about": "apart", "speaks": "lm", "overrides": {"stages": {"tokenizer": {
            "trainable": ["tokenizer", "rm"], "weights": {"lm": 0, "fm": 0}}}}},
        "stage2": {"about": "together", "speaks": "lm"},
        "stage3": {"about": "and by samples", "speaks": "joint"}},
    "comparisons": [["stage3", "cascade"], ["stage3", "stage2"]]}


def make_folder(folder: Path, ablation: dict = ABLATION, recipe: dict = RECIPE) -> Path:
    """Configuration and prepared tables below ``folder``; returns the experiment's YAML."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    path = folder / "ablation.yaml"
    path.write_text(yaml.safe_dump(ablation, sort_keys=False))
    for name in ("train", "dev", "test_en", "sentences_en"):
        dump = folder / "dump" / name
        dump.mkdir(parents=True, exist_ok=True)
        (dump / "text_ids").write_text("u0 1 2 3\nu1 2 2\n")
        (dump / "text").write_text("u0 one\nu1 two\n")
    return path


class Stand:
    """Stands in for the commands: keeps what it was asked and writes what is read afterwards.

    on_call: called with the words of each command; a status it returns is the command's."""

    ear = "toy ear"

    def __init__(self, experiment: Experiment, on_call=lambda words: None):
        self.experiment, self.on_call = experiment, on_call
        self.calls: list[list[str]] = []

    def __call__(self, words: list[str], seconds: float | None) -> int:
        self.calls.append(words[: words.index("--config")])
        status = self.on_call(words)
        if status:
            return status
        folder = Path("exp") / words[words.index("--tag") + 1]
        folder.mkdir(parents=True, exist_ok=True)
        assert load_recipe_of(words)["corpus"]["tests"] == ["test_en"]
        getattr(self, words[0])(folder, words)
        return 0

    def train(self, folder: Path, words: list[str]) -> None:
        stage = folder / words[1]
        init = load_recipe_of(words)["stages"][words[1]]["init"]
        sources = [word.partition(".init=")[2] for word in words if ".init=" in word]
        assert len(sources) == (init is not None)
        assert all((Path(source) / "summary.json").is_file() for source in sources)
        for name in ("best", "last", "state"):
            (stage / name).mkdir(parents=True)
        (stage / "summary.json").write_text(json.dumps(
            {"seconds": 10.0, "audio_seconds": 600.0, "steps": 100, "skipped_steps": 0,
             "recoveries": [], "warnings": [{"step": 9, "what": "length",
                                             "message": "step 9: too long"}]
             if words[1:3] == ["lm", "seed=1"] else []}))

    def synthesize(self, folder: Path, words: list[str]) -> None:
        for option in ("--system", "--vocoder"):
            assert (Path(words[words.index(option) + 1]) / "best").is_dir()

    def probe(self, folder: Path, words: list[str]) -> None:
        write_probe(folder, entropy=8.0 + 0.1 * (Path(words[1]).name == "joint"))

    def score(self, folder: Path, words: list[str]) -> None:
        (folder / "score_cache.json").write_text("{}")
        system, _, seed = folder.name.rpartition("-seed")
        number = list(self.experiment.config.systems).index(system)
        write_scores(folder, edits=[3 - number, int(seed)], ear=self.ear)


def load_recipe_of(words: list[str]) -> dict:
    return yaml.safe_load(Path(words[words.index("--config") + 1]).read_text())


def write_probe(folder: Path, entropy: float) -> None:
    (folder / "probe.json").write_text(json.dumps({
        "parameters": {"lm": 1_000_000, "fm": 500_000},
        "tokens": {"tokens": 1000, "codebook_size": 375, "used_share": 0.9,
                   "entropy_bits": entropy, "mutual_information_bits": 1.5,
                   "mutual_information_plug_in_bits": 4.0,
                   "mutual_information_shuffled_bits": 2.5,
                   "coverage": [0.05 * i for i in range(1, 21)]},
        "recognition": {"test_en": {"utts": ["u0", "u1"], "edits": [1, 2], "labels": [10, 20],
                                    "speaker_right": [True, None]}}}))


def write_scores(folder: Path, edits: list[int], ear: str) -> None:
    """scores.jsonl and results.json: each utterance has ten words."""
    rows = []
    for system, name in (("recording", "test_en"), ("copy", "test_en"), ("tts", "test_en"),
                         ("tts", "sentences_en")):
        for i, wrong in enumerate(edits):
            rows.append({"system": system, "set": name, "utt": f"u{i}", "sim": 0.8,
                         "dnsmos": {"ovrl": 3.0 + i}, "errors": {
                             "substituted": wrong, "deleted": 0, "inserted": 0, "words": 10,
                             "char_edits": wrong, "chars": 40}})
    (folder / "scores.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "results.json").write_text(json.dumps({
        "commit": "0123456789abcdef", "problems": [], "hardware": "toy", "not_run": [],
        "recognizer": {"name": ear}}))


def make_experiment(folder: Path, **changes) -> Experiment:
    return load_experiment(make_folder(folder, {**ABLATION, **changes}))
