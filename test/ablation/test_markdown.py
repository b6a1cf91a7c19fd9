import dataclasses
import re

import pytest
from made_experiment import Stand, make_experiment, make_folder

from e2etts.ablation import figures
from e2etts.ablation.cells import (
    METRICS,
    cell,
    counts,
    difference,
    records,
    spoken,
    training_seconds,
)
from e2etts.ablation.experiment import load_experiment
from e2etts.ablation.figures import draw_figures, draw_wer_curve
from e2etts.ablation.markdown import ablation_markdown, written
from e2etts.ablation.session import Session
from e2etts.ablation.store import Results, Store
from e2etts.errors import UserError
from e2etts.score.compare import Estimate, holm


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """(experiment, ablation.json) of three systems at two seeds. Seed s of a system has made
    (its number of errors, s) errors in the two utterances of each set, of ten words each."""
    folder = tmp_path_factory.mktemp("experiment")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        experiment = make_experiment(folder)
        results = Results(folder / "ablation.json")
        Session(experiment, Store("abl"), results, call=Stand(experiment), publish=lambda: None,
                say=lambda text: None).go()
    return experiment, folder / "ablation.json"


@pytest.fixture
def measured(experiment):
    """(experiment, results) anew for each test."""
    experiment, path = experiment
    return experiment, Results(path)


def row(page: str, heading: str, first: str) -> list[str]:
    """Cells of the row that begins with ``first`` below a heading."""
    lines = page[page.index(heading):].splitlines()
    return next([c.strip() for c in line.strip("|").split("|")] for line in lines
                if line.startswith(f"| {first} |"))


def test_five_tables_hold_the_numbers_of_the_records(measured):
    experiment, results = measured
    page = ablation_markdown(experiment, results, "e2etts ablate", [])
    assert re.findall(r"^## (.+)$", page, re.M) == [
        "Systems", "1 Main comparisons", "2 Text-to-speech", "3 Copy synthesis",
        "4 What the RM recognises in recordings", "5 Tokens"]
    # Seeds 0 and 1: (3 + 0) / 20 and (3 + 1) / 20 words wrong.
    cascade, stage3 = (row(page, "## 2", s) for s in ("cascade", "stage3"))
    assert cascade[1] == "2" and cascade[2].startswith("17.5 [")
    assert stage3[2].startswith("7.5 [") and stage3[3].startswith("1.9 [")  # 3 of 2 x 80 characters
    assert row(page, "## 2", "recordings")[2] != "–"
    difference = row(page, "## 1", "stage3 - cascade")
    assert difference[2].startswith("-10.0 [") and "p = " in difference[2]
    assert row(page, "# Abl", "text-to-speech WER, stage3 - cascade, points")[1] == difference[2]
    assert row(page, "## 2", "stage3 - stage2")[2].startswith("-5.0 [")
    assert row(page, "Every run", "stage2")[1:] == ["10.0 (3.50)", "15.0 (3.50)"]
    assert row(page, "## 3", "stage2")[2].startswith("12.5 [")
    assert row(page, "## 4", "stage2")[1:] == ["2", "10.0", "100.0"]
    assert row(page, "## 4", "stage3 - stage2")[1:] == ["2", "equal", "equal"]
    assert row(page, "## 5", "stage3")[1:4] == ["2", "1000", "8.100"]
    assert row(page, "## 5", "stage3 - cascade")[3] == "+0.100, p < 0.001"
    assert row(page, "## Systems", "`stage3`") == ["`stage3`", "and by samples", "2", "30.0 s"]
    assert row(page, "Hours of audio", "`stage3`")[1:5] == [
        "0.17 h", "0.17 h", "0.50 h, 1.00 M", "0.17 h, 0.50 M"]  # tokenizer, speaker, LM, FM
    assert "| 6 of 6 measured |" in page and "| seeds | 0, 1 |" in page
    assert "toy ear; similarity: resemblyzer; DNSMOS" in page and "one seed," not in page


def test_p_values_are_corrected_for_the_differences_of_their_table(measured):
    experiment, results = measured
    page = ablation_markdown(experiment, results, "e2etts ablate", [])
    alone = row(page, "## 1", "stage3 - cascade")
    assert alone[2].endswith(f"p = {alone[-1]}") or alone[-1] == "< 0.001"  # one: as it is
    two = dataclasses.replace(experiment.config, leading=2)
    page = ablation_markdown(dataclasses.replace(experiment, config=two), results, "x", [])
    plain = [float(row(page, "## 1", f"stage3 - {other}")[2].rpartition(" ")[2])
             for other in ("cascade", "stage2")]
    found = [float(row(page, "## 1", f"stage3 - {other}")[-1]) for other in ("cascade", "stage2")]
    assert found == pytest.approx(holm(plain), abs=2e-3) and max(found) > max(plain) - 1e-3
    assert "stage3 - stage2, points" in page and "Every other comparison" not in page


def test_a_change_of_the_program_and_clips_without_a_score_are_listed(measured):
    experiment, results = measured
    results.runs["stage2-seed0"]["commit"] = "f" * 40 + "+dirty"
    results.runs["stage2-seed1"]["scores"]["copy"]["test_en"]["dnsmos"][1] = None
    results.runs["stage3-seed1"]["problems"] = 2
    del results.runs["stage3-seed0"]["hardware"]  # older records: as the facts of all have it
    results.runs["stage3-seed1"]["hardware"] = "a second toy"
    results.facts["not_run"] = [{"metric": "sim", "sets": "all", "reason": "no ear", "remedy": "x"}]
    page = ablation_markdown(experiment, results, "e2etts ablate", [])
    assert "| 0123456789ab, ffffffffffff+dirty |" in page
    assert "| hardware | a second toy; toy |" in page
    assert "- stage2-seed1: 1 of 2 clips of copy test_en without dnsmos\n" in page
    assert "- stage3-seed1: 2 clips could not be scored\n" in page
    assert "- sim not run: no ear; x\n" in page and "toy ear; DNSMOS" in page


def test_events_of_training_are_listed_once_for_each_stage(measured):
    experiment, results = measured
    for name in ("stage2-seed0", "stage3-seed0"):
        results.runs[name]["units"][1] |= {
            "skipped_steps": 3, "events": ["recovered: step 300: fm went from 1 to 2"]}
    del results.runs["cascade-seed0"]["units"][1]["events"]  # as older records are
    page = ablation_markdown(experiment, results, "e2etts ablate", [])
    assert [line for line in page.splitlines() if ", stage " in line] == [
        "- cascade-seed1, stage lm: warned: step 9: too long",
        "- stage2-seed0, stage tokenizer: recovered: step 300: fm went from 1 to 2",
        "- stage2-seed0, stage tokenizer: 3 steps were not finite",
        "- stage2-seed1, stage lm: warned: step 9: too long"]  # that of stage3 is the same


def test_tables_of_a_part_of_the_runs(measured):
    experiment, results = measured
    for name in ("cascade-seed0", "cascade-seed1", "stage3-seed1"):
        del results.runs[name]
    page = ablation_markdown(experiment, results, "e2etts ablate", [])
    assert "3 of 6 measured" in page and "**Where there is one seed" in page
    for heading in ("## 1", "## 2", "## 3"):
        assert row(page, heading, "cascade")[1:] == ["not run"] + ["–"] * 4
    assert row(page, "## 1", "stage3 - cascade")[1:] == ["none in common"] + ["–"] * 5
    assert row(page, "Every run", "cascade")[1:] == ["–", "–"]
    assert row(page, "Every run", "stage3")[2] == "–"
    assert row(page, "## 4", "cascade")[1:] == ["not run", "–", "–"]
    assert row(page, "## 5", "cascade")[1] == "not run"
    assert [row(page, "## 1", s)[1] for s in ("stage2", "stage3")] == ["2", "1 of 2"]
    assert row(page, "## 2", "stage3 - stage2")[1] == "1 of 2"
    # One seed of stage3: the interval is of its utterances, and token statistics have none.
    assert "[" in row(page, "## 1", "stage3")[2] and row(page, "## 5", "stage3")[3] == "8.100"
    # One seed of stage3 against two of stage2: only the seed of both is compared.
    one = difference(*(records(experiment, results)[s] for s in ("stage3", "stage2")),
                     spoken("tts", ("test_en", "sentences_en")), METRICS["wer"])
    assert (one.runs, one.utts) == (1, 4) and one.value == pytest.approx(-0.05)
    results.runs.clear()
    page = ablation_markdown(experiment, results, "e2etts ablate", [])
    assert "0 of 6 measured" in page and "| none so far; planned 0, 1 |" in page


def test_audio_of_a_stage_that_minutes_limit_is_known_when_it_has_run(measured, tmp_path):
    _, results = measured
    experiment = load_experiment(make_folder(tmp_path), [
        "stages.tokenizer.train={max_audio_seconds: null, max_minutes: 3}"])
    for run in experiment.runs:
        if run.name in ("stage2-seed0", "stage2-seed1"):
            results.runs[run.name] |= {"key": run.key}
    page = ablation_markdown(experiment, results, "e2etts ablate", [])
    assert row(page, "Hours of audio", "`stage3`")[1] == "? h"
    assert row(page, "Hours of audio", "`stage2`")[3] == "0.33 h, 1.00 M"


def test_utterances_without_a_score_are_left_out_on_both_sides(measured):
    experiment, results = measured
    runs = records(experiment, results)
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
    assert written(Estimate(0.9, 0.7, 1.1, 0.2, 3, 9), percent, most=1.0) == "0.9 [0.7, 1.0]"
    assert written(Estimate(2.0, None, None, None, 1, 1), percent) == "2.0"
    assert written(Estimate(2.0, 2.0, 2.0, 0.0, 3, 9), percent) == "2.0"
    for low in (None, 0.0):
        assert written(Estimate(0.0, low, low, 1.0, 3, 9), percent, True) == "equal"


def test_figures_are_the_same_for_the_same_results(measured, tmp_path):
    experiment, results = measured
    paths = draw_figures(experiment, results, tmp_path)
    assert [p.name for p in paths] == ["wer_against_training_time.svg", "wer_by_system.svg",
                                       "token_usage.svg"]
    before = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in draw_figures(experiment, results, tmp_path)] == before
    page = ablation_markdown(experiment, results, "e2etts ablate", paths)
    assert "![wer by system](figures/wer_by_system.svg)" in page
    results.runs.clear()
    assert draw_figures(experiment, results, tmp_path) == []


def test_the_curve_names_the_stages_and_can_hold_a_rate_of_nothing(tmp_path):
    rows = []
    for seconds, stage, wer in ((60, "tokenizer", 1.2), (90, "lm", 0.05), (120, "fm", 0.0)):
        point = {"test_en": {"wer": wer, "wer_ci": [wer, wer + 0.1]}}
        rows.append({"seconds": seconds, "checkpoint": f"{stage}/best", "copy": point,
                     "tts": point})
    draw_wer_curve(rows, tmp_path / "c.svg")
    drawing = (tmp_path / "c.svg").read_text()
    assert "<svg" in drawing and "nan" not in drawing
    for word in ("tokenizer", "lm", "fm", "100", "2", "tts test_en", "copy test_en"):
        assert f"<!-- {word} -->" in drawing, word


def drawn(experiment, results):
    """The three figures, as matplotlib has them."""
    runs, sets = records(experiment, results), ("test_en", "sentences_en")
    seeds = dict.fromkeys(runs, 2)
    made = (figures._wer_against_time(runs, sets, seeds), figures._bars(runs, sets, seeds),
            figures._usage(experiment, results))
    return [figure.axes[0] for figure in made]


def test_figures_of_a_part_of_the_runs_say_what_is_absent(measured):
    experiment, results = measured
    for name in ("cascade-seed0", "cascade-seed1", "stage3-seed1"):
        del results.runs[name]
    times, bars, usage = drawn(experiment, results)
    names = ["cascade (not run)", "stage2", "stage3 (1 of 2 seeds)"]
    assert [t.get_text() for t in bars.get_xticklabels()] == names
    # 2 of 20 words at seed 0 and 3 at seed 1; 1 at seed 0.
    assert [round(b.get_height(), 6) for b in bars.containers[0]] == [12.5, 5.0]
    assert [b.get_x() + b.get_width() / 2 for b in bars.containers[0]] == [1, 2]
    for axes in (times, bars):
        assert "one seed" in axes.get_title()
    assert times.get_legend_handles_labels()[1] == names[1:]
    assert usage.get_legend_handles_labels()[1] == ["stage2, stage3", "even use"]


def test_a_run_whose_machine_was_halted_does_not_move_the_time_of_its_system(measured):
    experiment, results = measured
    runs = records(experiment, results)
    runs["cascade"] = [runs["cascade"][0] | {"train_seconds": s} for s in (100.0, 9000.0, 104.0)]
    assert training_seconds(runs["cascade"]) == 104.0 and training_seconds([]) is None
    axes = figures._wer_against_time(runs, ("test_en",), dict.fromkeys(runs, 3)).axes[0]
    at = {x for line in axes.get_lines() for x in line.get_xdata()}
    assert 104.0 in at and max(at) < 9000


def test_a_line_of_token_usage_is_the_mean_over_all_seeds_of_its_tokenizer(measured):
    experiment, results = measured
    del results.runs["stage3-seed1"]  # the last of the systems has one seed
    for name, share in (("stage2-seed0", 0.2), ("stage3-seed0", 0.2), ("stage2-seed1", 0.4)):
        results.runs[name]["tokens"]["coverage"] = [share] * 20
    usage = drawn(experiment, results)[2]
    lines = {line.get_label(): line.get_ydata() for line in usage.get_lines()}
    assert lines["stage2, stage3"][1:] == pytest.approx([30.0] * 20)
    assert lines["cascade"][1] == pytest.approx(5.0)


def test_a_wide_interval_flattens_no_figure(measured):
    experiment, results = measured
    for seed, edits in ((0, [0, 0]), (1, [10, 10])):
        for name in ("test_en", "sentences_en"):
            results.runs[f"stage3-seed{seed}"]["scores"]["tts"][name]["edits"] = edits
    times, bars, _ = drawn(experiment, results)
    assert times.get_ylim() == (0, 160.0) and bars.get_ylim() == (0, 80.0)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "ablation.json").write_text('{"format": 9}')
    with pytest.raises(UserError, match="not results of an experiment"):
        Results(tmp_path / "ablation.json")
