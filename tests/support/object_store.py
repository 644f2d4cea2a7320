"""An S3-compatible server on loopback, which can fail as object stores do.

It is moto's server behind a layer that spoils the answers to chosen requests.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

BUCKET = "texts"
Fault = Literal["500", "cut"]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


class ObjectStore:
    """A store with one bucket.

    Attributes:
        endpoint: URL of the server.
        faults: Faults of the next requests for the content of an object, one each.
        answered: Number of such requests that were answered without a fault.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.faults: list[Fault] = []
        self.answered = 0

    def put(self, key: str, content: bytes) -> str:
        """Write an object and return its URL."""
        client = boto3.client("s3", endpoint_url=self.endpoint)
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key=key, Body=content)
        client.close()
        return f"s3://{BUCKET}/{key}"

    def __call__(self, app: Any, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request, with the next fault if it is for the content of an object."""
        is_content = environ["REQUEST_METHOD"] == "GET" and environ["PATH_INFO"].count("/") > 1
        if not is_content:
            return app(environ, start_response)
        if not self.faults:
            self.answered += 1
            return app(environ, start_response)
        if self.faults.pop(0) == "500":
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]
        body = b"".join(app(environ, start_response))
        return [body[: len(body) // 2]]  # Content-Length says that more follows.


@contextlib.contextmanager
def serve_objects() -> Iterator[ObjectStore]:
    """Run a store in a thread."""
    app = DomainDispatcherApplication(create_backend_app)
    store = ObjectStore("")
    server = make_server("127.0.0.1", 0, lambda *request: store(app, *request), threaded=True)
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
