"""The report's section on training, from logs."""

import json

from made_up import make_experiment

from e2etts.report.training_curves import curves, read_records, training_section


def test_half_lines_and_null_losses_are_left_out(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    found = curves(read_records(exp / "lm" / "log.jsonl"))
    assert len(found["loss"]["train"]) == 30 and len(found["lm"]["train"]) == 29
    assert len(found["loss"]["dev"]) == 3
    assert read_records(exp / "nowhere") == []


def test_health_is_charted_together_and_recoveries_are_marked_and_listed(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    with (exp / "lm" / "log.jsonl").open("w") as log:
        for step in range(1, 5):
            log.write(json.dumps({"step": step, "split": "train", "loss": 1.0, "seconds": 1,
                                  "q_grad_fm": 10.0 ** step, "q_grad_lm": 0.0}) + "\n")
        log.write(json.dumps({"step": 3, "split": "recovered", "back_to": 1, "lr_scale": 0.7,
                              "reason": "<fm> jumped"}) + "\n")
        log.write(json.dumps({"step": 2, "split": "warning", "what": "length",
                              "message": "step 2: samples are too long"}) + "\n")
        log.write(json.dumps({"step": 4, "split": "dev", "rm_error": 0.3, "judge_error": 0.5,
                              "loss": 1.0}) + "\n")
    page = training_section(exp)
    assert "&lt;fm&gt; jumped; back to step 1, then at 0.7 of the learning rate" in page
    assert "lm: step 2: samples are too long" in page and "back_to" not in page
    for event in ("recovered", "warning"):
        assert page.count(f'class="{event}"') == 2  # loss and gradients; of dev there is one step
    gradients = page[page.index("Gradient at q"):].partition("</div>")[0]
    assert "fm, last 1e+04" in gradients and "lm, last 0" in gradients
    assert "fm: last 4<" in page and "lm: last" not in gradients  # log10, of 0 there is none
    errors = page[page.index("Errors recognised"):].partition("</div>")[0]
    assert "judge_error, last 0.5" in errors and "rm_error, last 0.3" in errors


def test_a_stage_of_another_name_is_charted_too(tmp_path):
    exp = make_experiment(tmp_path / "exp")
    (exp / "judge").mkdir()
    (exp / "judge" / "log.jsonl").write_text(
        "".join(json.dumps({"step": s, "split": "train", "loss": 1.0 / s}) + "\n" for s in (1, 2)))
    assert "loss of stage judge against training steps" in training_section(exp)
