"""A server of OpenAI's chat completions on the loopback interface, which answers as a test says."""

import json
import math
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True)
class Raw:
    """Bytes to answer with, and how many of them are announced."""

    content: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None


def failure(status: int, message: str = "no", headers: Any = None, **details: Any) -> Raw:
    error = {"error": {"message": message, "type": "error", **details}}
    return Raw(json.dumps(error).encode(), status, {"retry-after-ms": "1", **(headers or {})})


def drop() -> Raw:
    """Half of an answer, after which the connection is closed."""
    return Raw(b'{"choices": [', announced=1000)


Answer = dict[str, Any] | Raw


class ChatServer:
    """Records the bodies of chat completions, their headers, and how many there were at once.

    Args:
        answer: gives the answer to a body; it may block.
        models: what /v1/models lists, or gives the answer; None answers 404 there.
    """

    def __init__(self, answer: Callable[[Body], Answer], models: Any = None) -> None:
        self.answer = answer
        self.models = models
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.lists_asked = 0
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def post(self, body: Body, headers: dict[str, str]) -> Answer:
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return self.answer(body)
        finally:
            with self._lock:
                self._at_once -= 1

    def get(self) -> Answer:
        self.lists_asked += 1
        if callable(self.models):
            return self.models()
        if isinstance(self.models, Raw):
            return self.models
        if self.models is None:
            return failure(404, "Not Found")
        cards = [each if isinstance(each, dict) else {"id": each} for each in self.models]
        return {"object": "list", "data": cards}


def _handler(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(server.get())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._send(server.post(body, headers))

        def _send(self, answer: Answer) -> None:
            if isinstance(answer, dict):
                answer = Raw(json.dumps(answer).encode())
            announced = len(answer.content) if answer.announced is None else answer.announced
            try:
                self.send_response(answer.status)
                headers = {"content-type": "application/json", **answer.headers}
                for name, value in {**headers, "content-length": str(announced)}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.content)
            except (BrokenPipeError, ConnectionResetError):  # nobody waits any more
                self.close_connection = True
            if announced != len(answer.content):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def said(
    text: str | None,
    *,
    finish_reason: str = "stop",
    tokens: Sequence[tuple[str, dict[str, float]]] | None = None,
    usage: tuple[int, int] | None = (100, 10),
    choice: dict[str, Any] | None = None,
    **message: Any,
) -> dict[str, Any]:
    """A chat completion; `tokens` are (text, probabilities by text)."""
    logprobs = None
    if tokens is not None:
        logprobs = {"content": [_logprob(*token) for token in tokens]}
    return {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish_reason,
                "logprobs": logprobs,
                **(choice or {}),
            }
        ],
        **({"usage": {"prompt_tokens": usage[0], "completion_tokens": usage[1]}} if usage else {}),
    }


def _logprob(text: str, probabilities: dict[str, float]) -> dict[str, Any]:
    top = [{"token": each, "logprob": math.log(p)} for each, p in probabilities.items()]
    return {"token": text, "logprob": math.log(probabilities.get(text, 0.5)), "top_logprobs": top}


def labels_of(body: Body) -> list[str]:
    """The labels of the form in a body, by schema, by regular expression or in words."""
    if "response_format" in body:
        return list(body["response_format"]["json_schema"]["schema"]["properties"])
    if "structured_outputs" in body:
        return [
            f"[{n}]"
            for n in dict.fromkeys(
                re.findall(r"\\\[(\d+)\\\]", body["structured_outputs"]["regex"])
            )
        ]
    text = " ".join(message["content"] for message in body["messages"])
    return list(dict.fromkeys(re.findall(r"^\[\d+\]", text, re.M)))


def words_of(body: Body) -> list[str]:
    """The choices of the form in a body, where they are words."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    choices = [each["enum"] for each in schema.get("properties", {}).values()]
    return [word for word in (choices or [[]])[0] if isinstance(word, str)]


def form_text(scores: Iterable[int]) -> str:
    entries = ", ".join(f'"[{label}]": {score}' for label, score in enumerate(scores, start=1))
    return "{" + entries + "}"


def form_tokens(text: str) -> list[tuple[str, dict[str, float]]]:
    """The text one digit or other part at a time; a tenth of a digit's probability is on a 0."""
    return [
        (part, {"0": 0.1, part: 0.9} if part.isdigit() and part != "0" else {part: 1.0})
        for part in re.findall(r"[0-9]|[^0-9]+", text)
    ]


def scores_of(body: Body) -> list[int]:
    """Scores that depend on the messages alone."""
    seed = sum(json.dumps(body["messages"]).encode())
    return [(seed + 3 * place) % 11 for place, _ in enumerate(labels_of(body))]


def sane(body: Body) -> Answer:
    """Fills the form of a schema, with logprobs if asked; else writes the answer out."""
    usage = (len(json.dumps(body["messages"])) // 4, 50)
    text = form_text(scores_of(body))
    words = words_of(body)
    if words:
        text = json.dumps(dict.fromkeys(labels_of(body), words[0]))
        shares = {word: (1 + place) / 10 for place, word in enumerate(words)}
        start, _, end = text.rpartition(words[0])
        tokens = [(start, {start: 1.0}), (words[0], shares), (end, {end: 1.0})]
        return said(text, tokens=tokens if body.get("logprobs") else None, usage=usage)
    if "response_format" in body:
        return said(text, tokens=form_tokens(text) if body.get("logprobs") else None, usage=usage)
    return said(f"<reason>all read</reason>\n<answer>{text}</answer>", usage=usage)
