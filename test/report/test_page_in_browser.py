"""The report in a real headless browser: it plays, shows, and asks for nothing."""

import os
import shutil

import pytest
from made_up import ToyMeter, make_experiment

from e2etts.report.page import report_html
from e2etts.score.config import ScoreConfig
from e2etts.score.metrics import wer
from e2etts.score.results import score_experiment

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def absent(what: str) -> None:
    """Fail where everything must be tested, skip elsewhere."""
    text = f"{what}: run tools/install_browser.sh, or set CHROME to a Chromium"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        absent("the package playwright is not installed")
    program = os.environ.get("CHROME") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        absent("no Chromium found")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS,
                                              timeout=120_000)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    pytest.importorskip("whisper_normalizer")
    exp = make_experiment(tmp_path_factory.mktemp("report") / "exp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wer, "find_recognizer", lambda config, warn: ToyMeter())
        config = ScoreConfig(metrics=("wer",), workers=1, bootstrap_samples=50)
        score_experiment(exp, config, 0, "./run.sh", say=lambda line: None)
    (exp / "report.html").write_text(report_html([exp], config), encoding="utf-8")
    return exp / "report.html"


def open_page(browser, file, **context):
    page = browser.new_context(**context).new_page()
    page.set_default_timeout(60_000)
    page.problems, page.requests = [], []
    page.on("console", lambda m: page.problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: page.problems.append(str(e)))
    page.on("request", lambda r: page.requests.append(r.url))
    page.goto(file.as_uri())
    return page


def test_players_pictures_and_charts(browser, page_file):
    page = open_page(browser, page_file)
    players = page.locator("audio")
    assert players.count() == 7  # 3 systems x 2 clips and one sentence
    page.wait_for_function("[...document.querySelectorAll('audio')].every(a => a.readyState >= 1)")
    durations = page.evaluate("[...document.querySelectorAll('audio')].map(a => a.duration)")
    assert all(0.5 < d < 2 for d in durations), durations
    widths = page.evaluate("Promise.all([...document.images].map("
                           "i => i.decode().then(() => i.naturalWidth)))")
    assert len(widths) == 7 and all(w > 50 for w in widths)
    assert page.locator("#training .charts > .chart").count() >= 2
    assert page.locator("#tokens svg path.area").count() == 1
    assert page.locator("audio:not([aria-label]), img:not([alt]), svg:not([aria-label])").count() \
        == 0
    assert page.problems == []
    outside = [u for u in page.requests if not u.startswith(("data:", "blob:", "file:"))]
    assert outside == [] and [u for u in page.requests if u.startswith("file:")] == [
        page_file.as_uri()]


def test_texts_are_shown_as_written_and_errors_marked(browser, page_file):
    page = open_page(browser, page_file)
    printed = page.locator(".text").all_inner_texts()
    assert any('say <b>one</b> & "two"' in s for s in printed)
    assert any("hola $mundo </script>" in s for s in printed)
    assert page.locator(".hypothesis mark, .hypothesis del, .hypothesis ins").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, page_file, scheme):
    page = open_page(browser, page_file, viewport={"width": 375, "height": 800},
                     color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
