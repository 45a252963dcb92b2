"""The settings of engine openai, checked, and which of a server's models they mean."""

from __future__ import annotations

import dataclasses
import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from llmrankers_groupwise.engines.openai_accepted import Accepted, Way
from llmrankers_groupwise.engines.protocol import EngineSettings, resolved_args
from llmrankers_groupwise.errors import ModelError, SettingsError

__all__ = [
    "ARGS",
    "accepted_at_first",
    "chosen_model",
    "nearest",
    "of_vllm",
    "preferred",
    "resolved_settings",
]

logger = logging.getLogger(__name__)

ARGS: Mapping[str, Any] = {
    "base_url": None,
    "api_key_env": None,
    "concurrency": 64,
    "timeout": 600,
    "max_retries": 4,
    "structured_outputs": "auto",
    "logprobs": "auto",
    "max_model_len": None,
    "extra_body": {},
    "chat_template": None,
    "chat_template_kwargs": {},
    "trust_remote_code": False,
}
"""The engine arguments, with their defaults."""

_MOST_CONNECTIONS = 1000  # of the client
_WAYS: tuple[Way, ...] = ("json_schema", "regex", "none")


def resolved_settings(settings: EngineSettings) -> dict[str, Any]:
    """The engine's arguments, defaults filled in.

    Raises:
        SettingsError: a setting that means nothing to this engine, or a value out of range. Does
            not quote a key.
    """
    for name in ("api_key", "key", "token"):
        if name in settings.engine_args:
            raise SettingsError(
                f"engine_args has {name}: a key is not given as a setting, where it would get into "
                f"logs and manifests; put it into the environment variable OPENAI_API_KEY, or into "
                f"one that api_key_env names"
            )
    if settings.lora_name_or_path is not None:
        raise SettingsError(
            "engine openai cannot load lora_name_or_path: a server loads its adapters itself; give "
            "the name under which it serves one as model_name_or_path"
        )
    if settings.device is not None:
        raise SettingsError("engine openai has no use for device: the server runs the model")
    args = resolved_args("openai", settings.engine_args, ARGS)
    if settings.tokenizer_name_or_path is None:
        given = [n for n in ("chat_template", "trust_remote_code") if n in settings.engine_args]
        given += ["cache_dir"] if settings.cache_dir is not None else []
        if given:
            raise SettingsError(
                f"{', '.join(given)} is about a tokenizer, and there is none: give "
                f"tokenizer_name_or_path besides"
            )
    _check_numbers(args)
    _check_kinds(args)
    return args


def _check_numbers(args: Mapping[str, Any]) -> None:
    for name, least, most in (
        ("concurrency", 1, _MOST_CONNECTIONS),
        ("max_retries", 0, 1000),
        ("max_model_len", 1, None),
    ):
        value = args[name]
        if value is None and name == "max_model_len":
            continue
        if type(value) is not int or value < least or (most is not None and value > most):
            upper = f" to {most}" if most is not None else ""
            raise SettingsError(f"{name} is {value!r}: give a whole number from {least}{upper}")
    if not 0 < args["timeout"] < float("inf"):
        raise SettingsError(f"timeout is {args['timeout']}: give seconds, more than 0")


def _check_kinds(args: Mapping[str, Any]) -> None:
    if args["structured_outputs"] not in ("auto", *_WAYS):
        raise SettingsError(
            f"structured_outputs is {args['structured_outputs']!r}: give one of auto, "
            f"{', '.join(_WAYS)}"
        )
    if args["logprobs"] != "auto" and not isinstance(args["logprobs"], bool):
        raise SettingsError(f"logprobs is {args['logprobs']!r}: give auto, true or false")
    for name in ("extra_body", "chat_template_kwargs"):
        if not isinstance(args[name], Mapping):
            raise SettingsError(f"{name} must be a table of names and values")


def accepted_at_first(args: Mapping[str, Any]) -> Accepted:
    """What is tried first, and what is left to try if the server refuses it."""
    way = args["structured_outputs"]
    return Accepted(
        ways=_WAYS if way == "auto" else (way,),
        top_logprobs=0 if args["logprobs"] is False else 20,
        keep_logprobs=args["logprobs"] is True,
    )


def of_vllm(listed: Sequence[Mapping[str, Any]] | None) -> bool:
    """Whether the server of these models says that it is vLLM."""
    return any(each.get("owned_by") == "vllm" for each in listed or ())


def preferred(accepted: Accepted, listed: Sequence[Mapping[str, Any]] | None) -> Accepted:
    """What to try first of a server with these models.

    vLLM says that it is vLLM. Its schemas let a model write blanks without end between the parts
    of a form; its regular expressions do not.
    """
    if of_vllm(listed) and len(accepted.ways) > 1:
        ways = sorted(accepted.ways, key=("regex", *_WAYS).index)
        return dataclasses.replace(accepted, ways=tuple(ways))
    return accepted


def chosen_model(
    wanted: str | None, listed: Sequence[Mapping[str, Any]] | None, where: str
) -> tuple[str, int | None]:
    """The model to ask for, and its longest text in tokens if the server says it, as vLLM does.

    Args:
        wanted: the name given; None takes the only model there is.
        listed: the server's models; None if it has no list.
        where: the server, for messages.

    A name that is not listed is warned of and taken: servers answer to aliases, to deployments and
    to adapters that they load when asked.

    Raises:
        ModelError: there is nothing or too much to choose from.
    """
    if listed is None:
        if wanted is None:
            raise ModelError(f"{where} does not list its models: give model_name_or_path")
        return wanted, None
    by_name = {str(each["id"]): each for each in listed}
    if wanted is None and len(by_name) > 1:
        raise ModelError(
            f"{where} serves {len(by_name)} models, {nearest('', list(by_name))}: choose one by "
            f"model_name_or_path"
        )
    name = wanted if wanted is not None else next(iter(by_name))
    # Ollama lists llama3:latest and Gemini models/NAME; both answer to the short name.
    forms = (name, f"{name}:latest", f"models/{name}")
    card = next((by_name[form] for form in forms if form in by_name), None)
    if card is None:
        known = nearest(name, list(by_name))
        logger.warning("%s does not list the model %s but %s; asking it anyway", where, name, known)
        return name, None
    base = by_name.get(str(card.get("parent")), {})  # of an adapter
    length = card.get("max_model_len") or base.get("max_model_len")
    return name, length if type(length) is int and length > 0 else None


def nearest(name: str, names: Sequence[str], most: int = 20) -> str:
    """These names in words, those like `name` first."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    names = [*close, *(each for each in names if each not in close)]
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
