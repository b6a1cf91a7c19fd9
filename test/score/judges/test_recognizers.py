import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from e2etts.errors import UserError
from e2etts.score.config import ScoreConfig
from e2etts.score.judges import locate, recognizers


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty cache and a hub that refuses the connection."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path


def fake_model(folder):
    folder.mkdir(parents=True)
    for name in (*recognizers.WHISPER_FILES, "vocabulary.txt"):
        (folder / name).write_text(name)
    return folder


def test_explicit_folder_then_cache(nowhere):
    pytest.importorskip("faster_whisper")
    given, cached = fake_model(nowhere / "given"), fake_model(recognizers.whisper_folder())
    printed = []
    found = recognizers.find_recognizer(ScoreConfig(recognizer=str(given)), printed.append)
    assert (found.folder, found.source) == (str(given), "given")
    found = recognizers.find_recognizer(ScoreConfig(beam=2), printed.append)
    assert (found.folder, found.source, found.beam) == (str(cached), "cache", 2)
    assert found.key("en") != found.key("es") and not printed


def test_a_wrong_explicit_folder_is_refused(nowhere):
    with pytest.raises(UserError, match="is not a folder"):
        recognizers.find_recognizer(ScoreConfig(recognizer="no/where"), print)
    half = fake_model(nowhere / "half")
    (half / "model.bin").unlink()
    with pytest.raises(UserError, match=r"lacks model\.bin"):
        recognizers.find_recognizer(ScoreConfig(recognizer=str(half)), print)


def test_a_hub_name_is_fetched_into_the_hubs_cache(nowhere, monkeypatch):
    pytest.importorskip("faster_whisper")
    requests = []

    def download(name, local_files_only, allow_patterns):
        requests.append((name, local_files_only))
        return str(fake_model(nowhere / "snapshot"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(locate.Unavailable, match="cannot be reached"):
        recognizers.named_recognizer("faster-whisper:a/b", ScoreConfig())
    monkeypatch.setattr(locate, "hub_answers", lambda name: True)
    found = recognizers.named_recognizer("faster-whisper:a/b", ScoreConfig())
    assert (found.folder, found.source) == (str(nowhere / "snapshot"), "a/b")
    assert requests == [("a/b", False)]


def test_pocketsphinx_warns_plainly_and_soon(nowhere):
    pytest.importorskip("pocketsphinx")
    printed, start = [], time.monotonic()
    found = recognizers.find_recognizer(ScoreConfig(), printed.append)
    assert time.monotonic() - start < 30
    assert isinstance(found, recognizers.SphinxMeter)
    assert all(part in printed[0] for part in ("NOT comparable", "English only", "get_whisper"))
    assert found.understands("en") and not found.understands("fr")
    noise = np.random.default_rng(0).normal(0, 0.01, 4000).astype(np.float32)
    assert isinstance(found.open("cpu")([noise], "en")[0], str)


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_sends_no_request(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: pytest.fail("sent a request"))
    assert not locate.hub_answers("a/b")


@pytest.mark.parametrize(("code", "answers"), [(200, True), (404, True), (403, False)])
def test_a_hub_without_the_requested_file_still_answers(monkeypatch, code, answers):
    """A proxy that refuses does not."""
    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(code)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.handle_request, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert locate.hub_answers("a/b") == answers
    server.server_close()
