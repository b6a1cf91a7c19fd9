"""A web server for downloads that break off."""

import http.server
import re


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``content``; honours Range; each answer breaks off after ``limit`` bytes."""

    content = b""
    limit = None
    asked: list = []

    def do_GET(self):
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        self.asked.append(start)
        if start and start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start:][:self.limit])

    def log_message(self, *args):
        pass
