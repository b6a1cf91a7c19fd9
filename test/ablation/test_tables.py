import re

import pytest
from made_experiment import Stand, make_plan

from e2etts.ablation.cells import METRICS, cell, counts, difference, records, spoken
from e2etts.ablation.figures import curve, draw
from e2etts.ablation.record import Results
from e2etts.ablation.run import Session, Store
from e2etts.ablation.tables import markdown, written
from e2etts.errors import UserError
from e2etts.score.compare import Estimate


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """(plan, results) of three systems at two seeds. Seed s of a system has made (its number of
    errors, s) errors in the two utterances of each set, of ten words each."""
    monkeypatch.chdir(tmp_path)
    plan, store = make_plan(tmp_path), Store("abl")
    results = Results(store.root / "ablation.json")
    Session(plan, store, results, call=Stand(plan), publish=lambda: None,
            say=lambda text: None).go()
    return plan, Results(store.root / "ablation.json")


def row(page: str, heading: str, first: str) -> list[str]:
    """Cells of the row that begins with ``first`` below a heading."""
    lines = page[page.index(heading):].splitlines()
    return next([c.strip() for c in line.strip("|").split("|")] for line in lines
                if line.startswith(f"| {first} |"))


def test_five_tables_hold_the_numbers_of_the_records(measured):
    plan, results = measured
    page = markdown(plan, results, "e2etts ablate", [])
    assert re.findall(r"^## (.+)$", page, re.M) == [
        "Systems and their budgets", "1 Text-to-speech", "2 Without end-to-end training",
        "3 Copy synthesis", "4 What the RM reads in recordings", "5 Tokens"]
    # Seeds 0 and 1: (3 + 0) / 20 and (3 + 1) / 20 words wrong.
    assert row(page, "## 1", "cascade")[1].startswith("17.5 [")
    assert row(page, "## 1", "stage3")[1].startswith("7.5 [")
    assert row(page, "## 1", "recordings")[1] != "–"
    assert row(page, "## 1", "stage3")[2].startswith("1.9 [")  # 3 of 2 x 80 characters
    assert row(page, "## 2", "difference")[1].startswith("-10.0 [")
    assert "p = " in row(page, "## 2", "difference")[1]
    assert row(page, "## 2", "stage3 - stage2")[1].startswith("-5.0 [")
    assert row(page, "## 3", "stage2")[1].startswith("12.5 [")
    assert row(page, "## 4", "stage2")[1:] == ["10.0 [10.0, 10.0]", "100.0 [100.0, 100.0]"]
    assert row(page, "## 5", "stage3")[1:3] == ["1000", "8.100 [8.100, 8.100]"]
    assert row(page, "## 5", "stage3 - cascade")[2].startswith("+0.100 [")
    assert row(page, "## Systems", "stage3")[2:] == [
        "2", "0.17", "0.50", "0.17", "0.17", "0.17", "0.0", "30.0 s"]
    assert "6 of 6 measured" in page and "toy ear" in page


def test_tables_of_a_part_of_the_runs(measured):
    plan, results = measured
    for name in ("cascade-seed0", "cascade-seed1", "stage3-seed1"):
        del results.runs[name]
    page = markdown(plan, results, "e2etts ablate", [])
    assert "3 of 6 measured" in page
    assert row(page, "## 2", "cascade")[1:] == ["–"] * 4 == row(page, "## 2", "difference")[1:]
    # One seed of stage3 against two of stage2: only the seed of both is compared.
    one = difference(*(records(plan, results)[s] for s in ("stage3", "stage2")),
                     spoken("tts", ("test_en", "sentences_en")), METRICS["wer"])
    assert (one.runs, one.utts) == (1, 4) and one.value == pytest.approx(-0.05)
    results.runs.clear()
    assert "0 of 6 measured" in markdown(plan, results, "e2etts ablate", [])


def test_utterances_without_a_score_are_left_out_on_both_sides(measured):
    plan, results = measured
    runs = records(plan, results)
    runs["stage3"][0]["scores"]["tts"]["test_en"]["edits"][0] = None
    take = spoken("tts", ("test_en",))
    assert difference(runs["stage3"], runs["cascade"], take, METRICS["wer"]).utts == 1
    assert cell(runs["cascade"], take, METRICS["wer"]).utts == 2
    tables = [{"utts": ["a"], "sim": [0.5]}, {"utts": ["b"], "sim": [0.5]}]
    with pytest.raises(ValueError, match="different utterances"):
        counts(tables, METRICS["sim"])


def test_how_a_cell_is_written():
    percent = "{:.1f}".format
    assert written(None, percent) == "–"
    assert written(Estimate(2.0, -1.0, 5.0, 0.2, 3, 9), percent) == "2.0 [0.0, 5.0]"
    assert written(Estimate(-2.0, -5.0, 1.0, 0.2, 3, 9), percent, True) == \
        "-2.0 [-5.0, +1.0], p = 0.200"
    assert written(Estimate(2.0, 1.0, 3.0, 1e-5, 3, 9), percent, True) == \
        "+2.0 [+1.0, +3.0], p < 0.001"
    assert written(Estimate(2.0, None, None, None, 1, 1), percent) == "2.0"


def test_figures_are_the_same_for_the_same_results(measured, tmp_path):
    plan, results = measured
    paths = draw(plan, results, tmp_path)
    assert [p.name for p in paths] == ["wer_against_training_time.svg", "wer_by_system.svg",
                                       "token_usage.svg"]
    before = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in draw(plan, results, tmp_path)] == before
    assert b"cascade" in before[0] or b"<svg" in before[0]
    page = markdown(plan, results, "e2etts ablate", paths)
    assert "![wer by system](figures/wer_by_system.svg)" in page
    point = {"test_en": {"wer": 0.5, "wer_ci": [0.4, 0.7]}}
    curve([{"seconds": s, "copy": point, "tts": point} for s in (60, 90)], tmp_path / "c.svg")
    assert "<svg" in (tmp_path / "c.svg").read_text()
    results.runs.clear()
    assert draw(plan, results, tmp_path) == []


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "ablation.json").write_text('{"format": 9}')
    with pytest.raises(UserError, match="not results of an experiment"):
        Results(tmp_path / "ablation.json")
