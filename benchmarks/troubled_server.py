"""A server of chat completions on loopback that gives no good answer to a share of its calls."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from llmrankers_groupwise.testing import json_reply

__all__ = ["troubled_server"]

LATE = 10.0  # seconds


def completion(body: Mapping[str, Any]) -> bytes:
    labels = sum(line.startswith("[") for line in body["messages"][-1]["content"].splitlines())
    text = json_reply([(7 * label) % 11 for label in range(max(1, labels))])
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 100, "completion_tokens": 50}
    return json.dumps({"object": "chat.completion", "choices": [choice], "usage": usage}).encode()


@contextmanager
def troubled_server(share: float, seed: int) -> Iterator[tuple[str, dict[str, int]]]:
    """Its address, and what it did how often."""
    rng, lock, did = random.Random(seed), threading.Lock(), dict[str, int]()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(200, json.dumps({"object": "list", "data": [{"id": "m"}]}).encode())

        def do_POST(self) -> None:
            content = completion(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            with lock:
                bad = rng.random() < share
                kind = rng.choice(("429", "500", "half", "garbage", "late")) if bad else "good"
                did[kind] = did.get(kind, 0) + 1
            if kind == "late":
                time.sleep(LATE)
            if kind in ("429", "500"):
                self.send(int(kind), b'{"error": {"message": "no"}}')
            elif kind == "half":
                self.send(200, content[:20], announced=len(content))
            else:
                self.send(200, b"<html>" if kind == "garbage" else content)

        def send(self, status: int, content: bytes, announced: int | None = None) -> None:
            try:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(announced or len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:  # nobody waits any more
                pass
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", did
    finally:
        server.shutdown()
        server.server_close()
