"""A server of chat completions on loopback whose every call takes as long as it is reckoned to.

A call takes a fixed time, and more for each token of prompt and completion; tokens are words. What
passages are worth they say themselves, as the word worth0123, and the reply follows from that: the
model's name says what it is to be, a method's name.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Latency", "answer_of", "slow_server"]

_SHOWN = re.compile(r"^\[\d+\] .*?\bworth(\d{4})", re.MULTILINE)


@dataclass(frozen=True)
class Latency:
    """What a call takes, in seconds."""

    call: float
    prompt_token: float
    completion_token: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Of one call."""
        return (
            self.call
            + self.prompt_token * prompt_tokens
            + self.completion_token * completion_tokens
        )


def answer_of(method: str, worth: Sequence[int]) -> str:
    """What a model that knows what passages are worth, 0..9999, says of labels 1..n."""
    best_first = sorted(range(1, len(worth) + 1), key=lambda label: -worth[label - 1])
    if method == "listwise":
        return " > ".join(f"[{label}]" for label in best_first)
    if method == "setwise":
        return f"<answer>[{best_first[0]}]</answer>"
    scores = {f"[{label}]": min(10, each // 909) for label, each in enumerate(worth, start=1)}
    return f"<answer>{json.dumps(scores)}</answer>"


def _completion(body: Mapping[str, Any], reasoning: int) -> tuple[bytes, int, int]:
    messages = body["messages"]
    worth = [int(each) for each in _SHOWN.findall(messages[-1]["content"])]
    text = "<reason>" + "so " * reasoning + "</reason> " + answer_of(body["model"], worth)
    prompt = sum(len(message["content"].split()) for message in messages)
    tokens = len(text.split())
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens}
    content = {"object": "chat.completion", "choices": [choice], "usage": usage}
    return json.dumps(content).encode(), prompt, tokens


@contextmanager
def slow_server(latency: Latency, reasoning: int, slots: int) -> Iterator[str]:
    """Its address. It serves `slots` calls side by side; each reasons for `reasoning` tokens."""
    free = threading.Semaphore(slots)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            models = [{"id": name} for name in ("groupwise", "listwise", "setwise", "pointwise")]
            self.send(json.dumps({"object": "list", "data": models}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with free:
                started = time.perf_counter()
                content, prompt, tokens = _completion(body, reasoning)
                end = started + latency.of(prompt, tokens)
                time.sleep(max(0.0, end - time.perf_counter()))
            self.send(content)

        def send(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 1024

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
