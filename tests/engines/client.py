"""client.py URL WHAT: OpenAI's own Python client does WHAT; what came of it is printed as JSON.

The key comes on standard input: tests look for it in the arguments of all processes.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import openai

MODEL = "qwen3-0.6b"
LONG: dict[str, Any] = {"max_tokens": 20000, "extra_body": {"ignore_eos": True}}


def messages() -> list[Any]:
    """A question."""
    return [{"role": "user", "content": "Who are you?"}]


def chat(client: openai.OpenAI) -> Any:
    """A whole answer."""
    answer = client.chat.completions.create(model=MODEL, messages=messages())
    return {"text": answer.choices[0].message.content, "reason": answer.choices[0].finish_reason}


def stream(client: openai.OpenAI) -> Any:
    """An answer as it comes: its pieces, and how many came before the last one was sent."""
    pieces, times = [], []
    for chunk in client.chat.completions.create(model=MODEL, messages=messages(), stream=True):
        if chunk.choices and chunk.choices[0].delta.content:
            pieces.append(chunk.choices[0].delta.content)
            times.append(time.monotonic())
    return {"text": "".join(pieces), "pieces": len(pieces)}


def cancel(client: openai.OpenAI) -> Any:
    """Hangs up after the third piece of an answer that would be long."""
    pieces = []
    with client.chat.completions.create(model=MODEL, messages=messages(), stream=True, **LONG) as answer:
        for chunk in answer:
            pieces.append(chunk)
            if len(pieces) == 3:
                break
    return {"pieces": len(pieces)}


def bad_key(client: openai.OpenAI) -> Any:
    """The error's name for a key that is wrong."""
    return _refused(client.with_options(api_key="sk-wrong"))


def timeout(client: openai.OpenAI) -> Any:
    """The error's name when the app needs longer than its client waits."""
    return _refused(client.with_options(timeout=2))


def models(client: openai.OpenAI) -> Any:
    """The names of the models."""
    return [model.id for model in client.models.list()]


def _refused(client: openai.OpenAI) -> Any:
    try:
        return chat(client)
    except openai.OpenAIError as error:
        return type(error).__name__


if __name__ == "__main__":
    url, what = sys.argv[1:]
    client = openai.OpenAI(base_url=url, api_key=sys.stdin.read().strip(), max_retries=0, timeout=300)
    print(json.dumps(globals()[what](client)))
