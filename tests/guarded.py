"""A server on loopback that knows one login, and of MLflow's pages one experiment."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

USER, PASSWORD = "admin", "right"
ANSWER = b'{"experiment": {"artifact_location": "file:///nowhere"}}'


class Guarded(BaseHTTPRequestHandler):
    """Answers whoever has the login."""

    def do_GET(self) -> None:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        self.send_response(200 if self.headers.get("Authorization") == f"Basic {login}" else 401)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def server() -> Iterator[str]:
    """Its address, while the block runs."""
    running = HTTPServer(("127.0.0.1", 0), Guarded)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()
