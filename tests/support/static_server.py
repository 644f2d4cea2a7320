"""A plain web server for a static page, on a thread of the test."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class _Handler(SimpleHTTPRequestHandler):
    """Serves files with the page's own policy as a header, so that it holds for workers too."""

    def __init__(self, *arguments: Any, policy: str, **options: Any) -> None:
        self._policy = policy
        super().__init__(*arguments, **options)

    def end_headers(self) -> None:
        self.send_header("Content-Security-Policy", self._policy)
        super().end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


def read_policy(site: Path) -> str:
    """Return the content security policy of a page."""
    found = re.search(r'Policy" content="([^"]*)"', (site / "index.html").read_text())
    assert found
    return found[1]


@contextmanager
def serve_directory(site: Path) -> Iterator[str]:
    """Serve the parent of a page, and yield the address of the page."""
    handler = partial(_Handler, directory=site.parent, policy=read_policy(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{site.name}/"
        finally:
            server.shutdown()
