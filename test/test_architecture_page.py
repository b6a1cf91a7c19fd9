"""docs/architecture.md names what exists, and README.md works as printed."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from made_corpus import make_set
from test_layout import LAYERS
from tiny import wake

from e2etts.audio import load_wav
from e2etts.bin.main import main
from e2etts.data.vocab import Vocab
from e2etts.recipe import load_recipe
from e2etts.stages.start import model_config
from e2etts.tasks.build import build_system, build_vocoder
from e2etts.train.checkpoint import save_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")

TICKED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.-]+/[\w./-]*|[\w-]+\.(?:py|sh|md|yaml)")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


@cache
def defined(path: Path) -> set[str]:
    """Names that a source file defines: functions, classes, constants; members as Class.name."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sh":
        return set(re.findall(r"^(\w+)\(\)", text, re.M))
    names = set()
    for node in ast.parse(text).body:
        names |= names_of(node)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{n}" for member in node.body for n in names_of(member)}
    return names


def names_of(node: ast.stmt) -> set[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {t.id for t in targets if isinstance(t, ast.Name)}


def parse(page: str) -> list[tuple[set[str], set[str]]]:
    """(paths, names) of each table row or paragraph that has one of them in backticks. Commands
    (with a space or a leading dot) and YAML keys (with a colon behind) are neither."""
    prose = re.sub(r"```.*?```", "", page, flags=re.S)
    blocks = [line for part in re.split(r"\n\s*\n", prose)
              for line in (part.splitlines() if part.startswith("|") else [part])]
    found = []
    for block in blocks:
        ticked = set(TICKED.findall(block))
        paths = {t for t in ticked if PATH.fullmatch(t)}
        names = {t for t in ticked - paths if NAME.fullmatch(t)}
        unclear = {t for t in ticked - paths - names
                   if " " not in t and not t.endswith(":")}
        assert not unclear, f"neither a path nor a name: {unclear}"
        if paths or names:
            found.append((paths, names))
    return found


def missing(paths: set[str], names: set[str]) -> list[str]:
    """Paths that do not exist (NAME.py stands for a new file: its folder must), and names that no
    file among ``paths`` defines."""
    files = [ROOT / p for p in paths if not p.endswith("/NAME.py")]
    new = [(ROOT / p).parent for p in paths if p.endswith("/NAME.py")]
    absent = [str(f) for f in [*files, *new] if not f.exists()]
    known = {n for f in files if f.suffix in (".py", ".sh") and f.is_file() for n in defined(f)}
    return absent + sorted(names - known)


@pytest.mark.parametrize("paths, names", parse(PAGE), ids=lambda s: " ".join(sorted(s))[:40])
def test_every_path_and_name_of_the_page_exists(paths, names):
    assert not missing(paths, names)


def test_the_check_finds_what_does_not_exist():
    row = "| `e2etts/nets/flow.py` | `flow_loss`, `FlowConfig.sigma`, `kind:`, `e2etts train lm` |"
    [(paths, names)] = parse(row)
    assert names == {"flow_loss", "FlowConfig.sigma"} and not missing(paths, names)
    [(paths, names)] = parse("`e2etts/nets/flow.py` `e2etts/no/NAME.py` `e2etts/x.py` `flow_lost`")
    assert missing(paths, names)[-1] == "flow_lost" and len(missing(paths, names)) == 3
    with pytest.raises(AssertionError, match="neither a path nor a name"):
        parse("`Trainer.run()`")
    assert "stage_train" in defined(ROOT / "utils/recipe.sh")


def section(page: str, title: str) -> str:
    return re.split(r"^## ", page.partition(f"\n## {title}")[2], flags=re.M)[0]


def test_the_walk_has_at_most_eight_files():
    rows = [line for line in section(PAGE, "One training run").splitlines()
            if line.startswith("| `")]
    files = [TICKED.search(row)[1] for row in rows]
    assert 5 <= len(files) <= 8 and len(set(files)) == len(files)
    assert files[0] == "utils/recipe.sh" and "e2etts/train/step.py" in files


def test_the_diagram_and_the_rooms_are_those_of_the_package():
    diagram = PAGE.split("```")[1].strip().splitlines()
    shown = {room: int(line[0]) for line in diagram if line[0] != "1" for room in line[1:].split()}
    assert shown == LAYERS and [int(line[0]) for line in diagram] == list(range(9, -1, -1))
    rooms = {path.parent.name for path in (ROOT / "e2etts").glob("*/__init__.py")}
    listed = set(re.findall(r"^\| `e2etts/(\w+)/` \|", PAGE, re.M))
    assert listed == rooms


def test_the_first_run_is_near_the_top_of_the_readme():
    titles = re.findall(r"^## (.*)", README, re.M)
    after = titles[titles.index("First run") + 1]
    assert README[: README.index(f"\n## {after}")].count("\n") <= 120
    first = section(README, "First run")
    assert "```sh\ncd egs/mini && ./run.sh\n```" in first and "```sh\ntest/run.sh\n```" in first


def relative_links(page: str) -> set[str]:
    return {target for target in re.findall(r"\]\(([^)\s]+)\)", page)
            if not target.startswith(("http://", "https://"))}


@pytest.mark.parametrize("file", ["README.md", "docs/architecture.md", "docs/method.md",
                                  "docs/mini_results.md", "docs/stages.md"])
def test_relative_links_lead_to_files_and_headings(file):
    page = ROOT / file
    broken = []
    for link in sorted(relative_links(page.read_text(encoding="utf-8"))):
        path, _, heading = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        exists = target.exists()
        if not exists:
            broken.append(link)
        if exists and heading and heading not in headings(target):
            broken.append(link)
    assert not broken


def headings(page: Path) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_python_of_the_readme_synthesizes(tmp_path, monkeypatch):
    """In a recipe folder with a tiny system instead of the mini recipe's."""
    monkeypatch.chdir(tmp_path)
    train = {"train": {"max_steps": 1}}
    trunk = {"dim": 16, "layers": 1, "heads": 2, "hidden_dim": 32}
    config = {
        "corpus": {}, "audio": {"mel_bands": 8}, "text": {"phonemes": False},
        "model": {"tokenizer": {"encoder": trunk, "q_dim": 8}, "lm": {"trunk": trunk},
                  "fm": {"trunk": trunk, "encoder_layers": 1}, "rm": {"trunk": trunk}},
        "vocoder": {"dim": 16, "layers": 1},
        "stages": {"joint": {"task": "first_order", "weights": {"lm": 1.0}, **train},
                   "vocoder": {"task": "vocoder", "weights": {"mel": 1.0}, **train}},
        "synthesis": {"candidates": 1, "sampling": {"max_ratio": 1.0}, "solver": {"steps": 1}}}
    Path("conf").mkdir()
    Path("conf/default.yaml").write_text(yaml.safe_dump(config))
    make_set(tmp_path, "train", 6)
    make_set(tmp_path, "dev", 2, seed=1)
    assert main(["prepare", "--config", "conf/default.yaml"]) == 0
    recipe, vocab = load_recipe("conf/default.yaml"), Vocab.load("dump")
    for stage, net in (("joint", wake(build_system(recipe, vocab), std=0.1)),
                       ("vocoder", build_vocoder(recipe.vocoder, recipe.audio))):
        save_checkpoint(Path("exp/default") / stage / "best", net.state_dict(),
                        {"config": model_config(recipe, stage, vocab)})
    [program] = re.findall(r"```python\n(.*?)```", README, re.S)
    exec(program, {})
    assert len(load_wav("morning.wav", recipe.audio.sample_rate_hz)) > 0
