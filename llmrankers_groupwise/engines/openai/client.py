"""The client of a server: where that is, what opens it, what its failures mean, what it takes."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import difflib
import json
import logging
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from llmrankers_groupwise.engines.llm.dialogue import Fill, Write
from llmrankers_groupwise.engines.openai.wire_format import (
    Capabilities,
    Completion,
    after_reply,
    drop_parameter,
    merged,
    read_completion,
)
from llmrankers_groupwise.errors import (
    EngineError,
    GroupwiseError,
    MissingDependencyError,
    ModelError,
    SettingsError,
)

if TYPE_CHECKING:
    import openai

__all__ = ["ChatClient", "Endpoint", "Negotiator", "RefusedError", "nearest"]

DEFAULT_KEY = "OPENAI_API_KEY"
_DEFAULT_URL = "https://api.openai.com/v1"
_NO_KEY = "none"  # local servers take any
_CONNECT_SECONDS = 20.0
_LIST_SECONDS = 20.0
_LONGEST_QUOTE = 400


class RefusedError(EngineError):
    """The server refuses a request as it is: it may take another.

    Args:
        message: what happened.
        reason: what the server answered.
        parameter: the one that it named as the fault.
        denied: it may take none at all, unless leaving something out helps this one.
    """

    def __init__(
        self, message: str, reason: str, parameter: str | None, *, denied: bool = False
    ) -> None:
        super().__init__(message)
        self.denied = denied
        self.reason = reason
        self.parameter = parameter


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's URL, and the secrets that open it, which show nowhere.

    Attributes:
        url: without a user's name and password.
        key_name: the environment variable of the key.
        key: the key; a word without meaning where the server needs none.
        login: "user:password", where the URL had them.
    """

    url: str
    key_name: str
    key: str = field(repr=False)
    login: str = field(default="", repr=False)

    @classmethod
    def resolve(cls, base_url: str | None, key_name: str | None) -> Endpoint:
        """The address by these settings and the environment.

        Raises:
            SettingsError: no key where one is needed, or something cannot be what it should be;
                does not quote what may be a secret.
        """
        if key_name is not None and not re.fullmatch("[A-Z_][A-Z0-9_]*", str(key_name)):
            raise SettingsError(
                "api_key_env is no name of an environment variable in capital letters: put the "
                "key into a variable, and give its name"
            )
        variable = key_name or DEFAULT_KEY
        key = os.environ.get(variable, "").strip()
        if not re.fullmatch("[!-~]*", key):
            raise SettingsError(f"{variable} holds no key: it has spaces or special characters")
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        if not key and (key_name is not None or base_url is None):
            raise SettingsError(
                f"the environment variable {variable} is not set: put the server's key into it, "
                f"or give --engine_args base_url=http://HOST:PORT/v1 of a server without one"
            )
        url, login = _split_url(base_url or _DEFAULT_URL)
        return cls(url, variable, key or _NO_KEY, login)

    @property
    def headers(self) -> dict[str, str]:
        """What is sent besides the key."""
        if not self.login:
            return {}
        encoded = base64.b64encode(self.login.encode()).decode()
        return {"Authorization": f"Basic {encoded}"}

    def hide(self, text: str) -> str:
        """A text of the server's without the secrets, should it quote them."""
        password = self.login.partition(":")[2]
        for secret in (self.key, password):
            if secret and secret != _NO_KEY:
                text = text.replace(secret, "***")
        return text


def _split_url(base_url: object) -> tuple[str, str]:
    """A base URL without user and password, and those."""
    try:
        parts = urlsplit(base_url if isinstance(base_url, str) else "")
        usable = parts.scheme in ("http", "https") and parts.hostname
        _ = parts.port
    except ValueError:
        usable = None
    if not usable or parts.query or parts.fragment:
        raise SettingsError("base_url is not of the kind http://HOST:PORT/v1, without '?' and '#'")
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=host).geturl().rstrip("/"), unquote(user)


class ChatClient:
    """Asks one server, by the openai package's client with its retries.

    Everything but making it happens on one event loop.

    Args:
        address: where it is.
        timeout: seconds to wait for the server to go on.
        max_retries: how often a request is sent again after a failure that may pass.

    Raises:
        MissingDependencyError: openai is not installed.
    """

    def __init__(self, address: Endpoint, *, timeout: float, max_retries: int) -> None:
        self.address = address
        self._openai = _import_openai()
        self._timeout = timeout
        self._max_retries = max_retries
        self._client: openai.AsyncOpenAI | None = None
        self._answered = False
        self._listed: list[str] = []

    async def models(self) -> list[Mapping[str, Any]] | None:
        """The models that the server lists; None if it does not list any.

        A list comes at once or not: its time limit is shorter than that of an answer.

        Raises:
            EngineError, ModelError: as `chat`; a server that will not give a list is asked on.
        """
        seconds = min(self._timeout, _LIST_SECONDS)
        try:
            payload = await self._send(
                lambda client: client.with_options(
                    max_retries=min(1, self._max_retries)
                ).models.with_raw_response.list(timeout=seconds),
                seconds=seconds,
                optional=True,
            )
        except EngineError as error:
            if error.retryable:
                raise
            return None
        listed = payload.get("data") if isinstance(payload, Mapping) else None
        listed = listed if isinstance(listed, list) else []
        models = [each for each in listed if isinstance(each, Mapping) and each.get("id")]
        self._listed = [str(each["id"]) for each in models]
        return models or None

    async def chat(self, body: Mapping[str, Any]) -> object:
        """The server's answer to a chat completion, as JSON.

        Raises:
            RefusedError: the server does not take this request.
            EngineError: it failed with this request, `retryable` if it may pass.
            ModelError: key, quota or model are at fault, or the server was never reached.
        """
        rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
        return await self._send(
            lambda client: client.chat.completions.with_raw_response.create(
                model=body["model"], messages=body["messages"], extra_body=rest
            ),
            model=str(body["model"]),
        )

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _send(
        self,
        send: Callable[[openai.AsyncOpenAI], Awaitable[Any]],
        *,
        seconds: float | None = None,
        model: str = "",
        optional: bool = False,
    ) -> object:
        """The JSON of an answer; None where the server has nothing there and it is optional."""
        failure: GroupwiseError
        try:
            response = await send(self._opened())
            self._answered = True
            return json.loads(response.text)
        except self._openai.APIStatusError as error:
            self._answered = True
            if optional and error.status_code in (403, 404, 405):
                return None
            failure = self._refusal(error, model)
        except self._openai.APIConnectionError as error:
            failure = self._lost(error, seconds or self._timeout)
        except (self._openai.OpenAIError, ValueError, RecursionError) as error:
            reason = self.address.hide(str(error))[:_LONGEST_QUOTE]
            failure = EngineError(f"{self.address.url} gave no JSON: {reason}")
        raise failure  # here, so that it does not carry the client's error, which may quote the key

    def _opened(self) -> openai.AsyncOpenAI:
        """The client. Its own kind of connection pool would close itself on any loop when lost."""
        if self._client is None:
            timeout = self._openai.Timeout(
                self._timeout, connect=min(self._timeout, _CONNECT_SECONDS)
            )
            self._client = self._openai.AsyncOpenAI(
                api_key=self.address.key,
                base_url=self.address.url,
                default_headers=self.address.headers,
                timeout=timeout,
                max_retries=self._max_retries,
                http_client=self._openai.DefaultAsyncHttpxClient(timeout=timeout),
            )
        return self._client

    def _refusal(self, error: openai.APIStatusError, model: str) -> GroupwiseError:
        """What an answer with a status of failure means."""
        status = error.status_code
        reason = self.address.hide(_reason(error.body))[:_LONGEST_QUOTE]
        message = f"{self.address.url} answered HTTP {status}: {reason or 'nothing more'}"
        if status in (401, 403):
            message += f"; check the key in the environment variable {self.address.key_name}"
            if status == 401:
                return ModelError(message)
            return RefusedError(message, reason, error.param, denied=True)
        if status == 402 or error.code == "insufficient_quota":
            return ModelError(f"{message}; the account has nothing left to spend")
        if status in (404, 405):
            listed = f" (it serves {nearest(model, self._listed)})" if self._listed else ""
            message += f"; check model_name_or_path{listed}, and base_url, which mostly ends in /v1"
            return RefusedError(message, reason, error.param, denied=True)
        if status in (400, 422, 501):
            return RefusedError(message, reason, error.param)
        # The openai package has retried by now; `max_retries` of the client is how many times.
        return EngineError(message, retryable=status in (408, 409, 429) or status >= 500)

    def _lost(self, error: openai.APIConnectionError, seconds: float) -> GroupwiseError:
        """What a connection that failed means: before any answer, that the server is not there."""
        cause = error.__cause__
        kind = type(cause).__name__
        why = self.address.hide(f"{kind}: {cause}" if str(cause or "") else kind)
        unreached = kind in ("ConnectError", "ConnectTimeout", "ProxyError", "UnsupportedProtocol")
        if unreached and not self._answered:
            return ModelError(
                f"cannot reach {self.address.url} ({why}): start the server, or correct base_url"
            )
        if isinstance(error, self._openai.APITimeoutError):
            return EngineError(
                f"{self.address.url} did not answer within {seconds:g} seconds ({kind}): give "
                f"a longer timeout or a lower concurrency by engine_args",
                retryable=True,
            )
        return EngineError(f"the connection to {self.address.url} failed: {why}", retryable=True)


def _reason(body: object) -> str:
    """The message in an error's body, in one line."""
    reason = body
    if isinstance(body, Mapping):
        reason = body.get("message") or body.get("detail") or json.dumps(body)
    if isinstance(reason, list):  # FastAPI's, which quotes the whole input besides
        reason = "; ".join(
            f"{each.get('loc')}: {each.get('msg')}" if isinstance(each, Mapping) else str(each)
            for each in reason
        )
    return " ".join(str(reason or "").split())


def _import_openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise MissingDependencyError("engine openai needs its client", "openai") from error
    return openai


logger = logging.getLogger(__name__)


# --- What the server takes ------------------------------------------------------------------------


class Negotiator:
    """Completes steps with as much left out of a request as the server makes necessary.

    The first step of a kind goes alone, and what helped it is kept for the others. A reply that
    shows later that the server ignores the form changes the way for all that follow.

    Args:
        server: is asked.
        accepted: what to try first.

    Attributes:
        accepted: what the server takes, as far as is known.
        settled: the kinds of steps of which the first is through.
    """

    def __init__(self, server: ChatClient, accepted: Capabilities) -> None:
        self.accepted = accepted
        self.settled: set[type[Write] | type[Fill]] = set()
        self._server = server
        self._settling = asyncio.Lock()

    async def complete(
        self,
        step: Write | Fill,
        body: Callable[[Capabilities], Mapping[str, Any]],
        count: Callable[[Completion], None],
    ) -> Completion:
        """The completion for a step.

        Args:
            step: what is asked.
            body: the request to send by what the server takes.
            count: is told every completion that came, those that did not fit included.

        Raises:
            EngineError, ModelError: as Server.chat and read_completion.
        """
        kind = type(step)
        if kind in self.settled:
            return await self._complete(step, body, count)
        async with self._settling:
            if kind not in self.settled:
                try:
                    completion = await self._complete(step, body, count)
                except Exception:
                    self.settled.add(kind)  # one failure must not make the rest queue up
                    raise
                self.settled.add(kind)
                if kind is Fill:
                    logger.info("%s fills forms by %s", self._server.address.url, self.accepted)
                return completion
        return await self._complete(step, body, count)

    async def _complete(
        self,
        step: Write | Fill,
        body: Callable[[Capabilities], Mapping[str, Any]],
        count: Callable[[Completion], None],
    ) -> Completion:
        tried = accepted = self.accepted
        while True:
            sent = body(accepted)
            less: Capabilities | None
            try:
                completion = read_completion(await self._server.chat(sent))
            except RefusedError as refused:
                less = drop_parameter(accepted, sent, refused.reason, refused.parameter)
                if less is None and refused.denied:
                    raise ModelError(str(refused)) from None
                if less is None:
                    raise
                logger.debug("trying %s after: %s", less, refused)
            else:
                count(completion)
                less = after_reply(accepted, step, completion)
                if less is None:
                    self._learn(tried, accepted, sent, completion)
                    return completion
            accepted = less

    def _learn(
        self,
        tried: Capabilities,
        accepted: Capabilities,
        sent: Mapping[str, Any],
        completion: Completion,
    ) -> None:
        """Keep what helped, beside what others have learned since this request was `tried` first.

        A server that ignores the wish for logprobs is not asked for them again.
        """
        if sent.get("logprobs") and not completion.tokens and not accepted.keep_logprobs:
            accepted = dataclasses.replace(accepted, top_logprobs=0)
        known = self.accepted if accepted == tried else merged(self.accepted, tried, accepted)
        if known != self.accepted:
            self.accepted = known
            logger.warning("%s is asked otherwise now: %s", self._server.address.url, known)


def nearest(name: str, names: Sequence[str], most: int = 20) -> str:
    """These names in words, those like `name` first."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    names = [*close, *(each for each in names if each not in close)]
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
