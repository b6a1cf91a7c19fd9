import http.server
import threading

import pytest
import torch
from served import Handler


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tests are too small to gain from threads, and must not crowd the machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def server():
    """Address of a web server that serves ``Handler.content``."""
    Handler.limit, Handler.asked = None, []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
