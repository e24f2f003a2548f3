"""A program of a user's, with the OpenAI client: openai_client.py BASE_URL WHAT MODEL.

Prints what became of it as JSON.

The key is in $OPENAI_API_KEY, and who signs the certificates in $SSL_CERT_FILE, where the client looks for both.
"""

import json
import sys

import openai

HI = [{"role": "user", "content": "hi"}]
ON_AND_ON = {"max_tokens": 30_000, "extra_body": {"ignore_eos": True}}
URL, WHAT, MODEL = sys.argv[1:]
client = openai.OpenAI(base_url=URL, max_retries=0, timeout=300)


def chat(client=client):
    made = client.chat.completions.create(model=MODEL, messages=HI)
    return {
        "text": made.choices[0].message.content,
        "end": made.choices[0].finish_reason,
        "tokens": made.usage.completion_tokens,
    }


def stream():
    pieces = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
    texts = [piece.choices[0].delta.content or "" for piece in pieces]
    return {
        "text": "".join(texts),
        "pieces": len([text for text in texts if text]),
        "end": pieces[-1].choices[0].finish_reason,
    }


def cancel():
    """Reads some of a very long answer, waits to be told, and goes away."""
    pieces = 0
    with client.chat.completions.create(model=MODEL, messages=HI, stream=True, **ON_AND_ON) as answer:
        for _ in answer:
            pieces += 1
            if pieces == 20:
                print("in the middle", flush=True)
                sys.stdin.readline()
                break
    return {"pieces": pieces}


def models():
    return {"models": [model.id for model in client.models.list()]}


def impatient():
    """Leaves before an app that sleeps can answer."""
    return chat(client.with_options(timeout=2))


def time_out():
    return client.with_options(timeout=6).chat.completions.create(model=MODEL, messages=HI, **ON_AND_ON).id


try:
    said = globals()[WHAT]()
except openai.APIStatusError as error:
    said = {"error": type(error).__name__, "status": error.status_code, "message": error.message}
except openai.APIError as error:
    said = {"error": type(error).__name__, "message": error.message, "cause": repr(error.__cause__)}
print(json.dumps(said))
