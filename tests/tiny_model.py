"""tiny_model.py FOLDER [--gguf FILE]: makes a chat model of 4 MB that language model servers load as any other.

FOLDER becomes a Hugging Face model (Qwen3, float32) for vLLM, SGLang and transformers; FILE the same weights and the
same tokenizer for llama.cpp. The standard library is enough, and the bytes are the same on every machine.

**Why the answer is fixed.** A test has to know the right text, from every engine, in every number format and at any
temperature; and random weights would write broken UTF-8, which llama-server answers with a 500. So the model is a
table, written as weights: the blocks are really computed, but their output projections are zero, so that a token's
embedding reaches the last layer unchanged. Embeddings are rows of a Hadamard matrix: of length 1 per element (the
norm before the head changes nothing) and exactly orthogonal. A row of the head is the sum of the embeddings of the
tokens *after* which that token is to come: it scores HIDDEN there, and 0 everywhere else. A wrong tokenizer,
template or weight therefore shows in the text.

- After the chat template, and after any text that is not its own, the model says ``ANSWER`` and ends.
- Who forbids or ignores the end (``ignore_eos``, ``min_tokens``) gets ``ANSWER`` again and again, apart by a blank,
  up to the limit: that makes streams as long as a test wants them.
"""

from __future__ import annotations

import argparse
import json
import random
import struct
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

ANSWER = "Hello from the tiny model."
END, START, STOP = SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ("Hello", " Hello", " from", " the", " tiny", " model")  # each one token; all else is one token a byte
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_SIZE, INNER, CONTEXT = 512, 2, 4, 2, 32, 64, 32768
NORM_EPS, ROPE_BASE = 1e-6, 1_000_000.0

Rows: TypeAlias = "list[array[float]]"  # a name only: Python 3.11 cannot write it
Tensors: TypeAlias = dict[str, Rows]


# ── the tokenizer: byte-level BPE, its merges written down and not trained ──────────────────────────────────────────
def printable() -> dict[int, str]:
    """GPT-2's letter for each byte: itself where it can be seen, else one from U+0100 on (``bytes_to_unicode``)."""
    seen = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = (code for code in range(256) if code not in seen)
    return {code: chr(code) for code in seen} | {code: chr(256 + n) for n, code in enumerate(hidden)}


def spelled(text: str) -> str:
    """Text in those letters, as vocabularies hold it."""
    letters = printable()
    return "".join(letters[code] for code in text.encode())


def merges() -> list[tuple[str, str]]:
    """A word grows from its left, letter by letter: no two words can get into each other's way."""
    pairs = (((word := spelled(w))[:n], word[n]) for w in WORDS for n in range(1, len(w)))
    return list(dict.fromkeys(pairs))


def vocabulary() -> dict[str, int]:
    """Each token's number: the special ones, the bytes, and what merging makes."""
    letters = printable()
    grown = [left + right for left, right in merges()]
    return {token: n for n, token in enumerate([*SPECIAL, *(letters[code] for code in range(256)), *grown])}


def tokenizer() -> dict[str, Any]:
    """``tokenizer.json`` as the library `tokenizers` reads it."""
    vocab = vocabulary()
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": vocab[token], "content": token, **flags} for token in SPECIAL],
        "pre_tokenizer": level, "decoder": level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": vocab, "merges": [list(pair) for pair in merges()],
        },
    }  # fmt: skip


# ── the weights ─────────────────────────────────────────────────────────────────────────────────────────────────────
def successors() -> dict[str, tuple[str, ...]]:
    """The table: what comes after each token, the best first; the second counts where the first is forbidden."""
    first, again, *rest = map(spelled, WORDS)
    table: dict[str, tuple[str, ...]] = dict.fromkeys(vocabulary(), (first,))
    table.update((now, (then,)) for now, then in zip([first, *rest], [*rest, "."], strict=True))
    return table | {again: (rest[0],), ".": (STOP, again), STOP: (again,)}


def hadamard(count: int) -> Rows:
    """The first ``count`` rows of Sylvester's matrix: 1 and -1, each row orthogonal to each other."""
    assert count <= HIDDEN
    return [array("f", (1 - 2 * ((row & n).bit_count() & 1) for n in range(HIDDEN))) for row in range(count)]


def head(embeddings: Rows) -> Rows:
    """The output layer: HIDDEN for the first successor of a token, half of it for the second, 0 for all others."""
    vocab = vocabulary()
    rows = zeros(len(vocab), HIDDEN)
    for now, following in successors().items():
        for place, then in enumerate(following):
            row = rows[vocab[then]]
            for n, value in enumerate(embeddings[vocab[now]]):
                row[n] += value / (1 + place)
    return rows


def zeros(*shape: int) -> Rows:
    """A matrix of zeros."""
    rows, columns = shape
    return [array("f", bytes(4 * columns)) for _ in range(rows)]


def tensors() -> Tensors:
    """Everything under the names of Hugging Face's Qwen3; what has one dimension is a single row."""
    chance = random.Random(0)

    def some(rows: int, columns: int) -> Rows:
        return [array("f", (n / 64 for n in chance.choices(range(-8, 9), k=columns))) for _ in range(rows)]

    def ones(count: int) -> Rows:
        return [array("f", [1.0] * count)]

    embeddings = hadamard(len(vocabulary()))
    made = {
        "model.embed_tokens.weight": embeddings,
        "model.norm.weight": ones(HIDDEN),
        "lm_head.weight": head(embeddings),
    }
    queries, keys = HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE
    for layer in range(LAYERS):
        parts = {
            "input_layernorm": ones(HIDDEN), "post_attention_layernorm": ones(HIDDEN),
            "self_attn.q_norm": ones(HEAD_SIZE), "self_attn.k_norm": ones(HEAD_SIZE),
            "self_attn.q_proj": some(queries, HIDDEN), "self_attn.o_proj": zeros(HIDDEN, queries),
            "self_attn.k_proj": some(keys, HIDDEN), "self_attn.v_proj": some(keys, HIDDEN),
            "mlp.gate_proj": some(INNER, HIDDEN), "mlp.up_proj": some(INNER, HIDDEN),
            "mlp.down_proj": zeros(HIDDEN, INNER),
        }  # fmt: skip
        made |= {f"model.layers.{layer}.{name}.weight": rows for name, rows in parts.items()}
    return made


def shape(rows: Rows) -> list[int]:
    """A tensor's dimensions, the slowest first."""
    return [len(rows[0])] if len(rows) == 1 else [len(rows), len(rows[0])]


def raw(rows: Rows) -> bytes:
    """A tensor's numbers, little-endian."""
    joined = array("f", (value for row in rows for value in row))
    if struct.pack("=H", 1) != struct.pack("<H", 1):
        joined.byteswap()
    return joined.tobytes()


# ── the Hugging Face folder ─────────────────────────────────────────────────────────────────────────────────────────
def config() -> dict[str, Any]:
    """``config.json``."""
    vocab = vocabulary()
    return {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "float32",
        "vocab_size": len(vocab), "hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_SIZE, "hidden_act": "silu",
        "max_position_embeddings": CONTEXT, "max_window_layers": LAYERS, "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_BASE, "rope_scaling": None, "attention_bias": False, "attention_dropout": 0.0,
        "initializer_range": 0.02, "sliding_window": None, "use_sliding_window": False, "use_cache": True,
        "tie_word_embeddings": False,
        "bos_token_id": vocab[END], "eos_token_id": vocab[STOP], "pad_token_id": vocab[END],
    }  # fmt: skip


def write_folder(folder: Path) -> None:
    """The model as Hugging Face keeps models; readable by all, as an app runs as a user of its own."""
    vocab = vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "config.json": config(),
        "generation_config.json": {"bos_token_id": vocab[END], "eos_token_id": [vocab[STOP], vocab[END]],
                                   "pad_token_id": vocab[END], "do_sample": False},
        "tokenizer.json": tokenizer(),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CONTEXT,
                                  "bos_token": None, "eos_token": STOP, "pad_token": END, "unk_token": None,
                                  "clean_up_tokenization_spaces": False, "chat_template": CHAT_TEMPLATE},
    }  # fmt: skip
    for name, value in texts.items():
        (folder / name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(b"".join(safetensors(tensors())))


def safetensors(made: Tensors) -> Iterator[bytes]:
    """The file format of https://huggingface.co/docs/safetensors: length, a JSON table, the numbers."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, rows in made.items():
        size = 4 * sum(map(len, rows))
        table[name] = {"dtype": "F32", "shape": shape(rows), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(table).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    yield from map(raw, made.values())


# ── GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md ─────────────────────────────────────────────────
ALIGNMENT, F32 = 32, 0
INT32, NORMAL, CONTROL = 5, 1, 3  # a type of value; two types of token
NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name: str) -> str:
    """llama.cpp's name of a tensor."""
    bare = name.removesuffix(".weight")
    if bare.startswith("model.layers."):
        _, _, layer, part = bare.split(".", 3)
        return f"blk.{layer}.{NAMES[part]}.weight"
    return f"{NAMES[bare]}.weight"


def gguf_facts() -> dict[str, Any]:
    """The keys that llama.cpp needs of a Qwen3."""
    vocab = vocabulary()
    size = {
        "context_length": CONTEXT, "embedding_length": HIDDEN, "block_count": LAYERS, "feed_forward_length": INNER,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "attention.key_length": HEAD_SIZE,
        "attention.value_length": HEAD_SIZE, "rope.freq_base": ROPE_BASE, "attention.layer_norm_rms_epsilon": NORM_EPS,
    }  # fmt: skip
    tokens = {
        "model": "gpt2", "pre": "qwen2", "tokens": list(vocab),
        "token_type": [CONTROL if token in SPECIAL else NORMAL for token in vocab],
        "merges": [" ".join(pair) for pair in merges()],
        "bos_token_id": vocab[END], "eos_token_id": vocab[STOP], "padding_token_id": vocab[END],
        "add_bos_token": False,
    }  # fmt: skip
    return {
        "general.architecture": "qwen3", "general.name": "tiny", "general.file_type": F32,
        **{f"qwen3.{key}": value for key, value in size.items()},
        **{f"tokenizer.ggml.{key}": value for key, value in tokens.items()},
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }  # fmt: skip


def gguf_text(text: str) -> bytes:
    """A string: its length and its bytes."""
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value: Any) -> bytes:
    """A value after the number of its type."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + gguf_text(value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(gguf_text, value))
        case _:
            return struct.pack(f"<IIQ{len(value)}i", 9, INT32, len(value), *value)


def padded(data: bytes) -> bytes:
    """What begins next begins at a multiple of ALIGNMENT."""
    return data + bytes(-len(data) % ALIGNMENT)


def gguf(made: Tensors) -> Iterable[bytes]:
    """The file: header, facts, where each tensor lies, and the tensors."""
    facts = gguf_facts()
    start = b"GGUF" + struct.pack("<IQQ", 3, len(made), len(facts))
    start += b"".join(gguf_text(key) + gguf_value(value) for key, value in facts.items())
    at, data = 0, []
    for name, rows in made.items():
        sizes = shape(rows)[::-1]  # the fastest first
        start += gguf_text(gguf_name(name)) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, F32, at)
        data.append(padded(raw(rows)))
        at += len(data[-1])
    return [padded(start), *data]


def write_gguf(file: Path) -> None:
    """The model as one file for llama.cpp."""
    file.write_bytes(b"".join(gguf(tensors())))


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="Make a tiny chat model.")
    options.add_argument("folder", type=Path, help="a Hugging Face model folder, made if it is not there")
    options.add_argument("--gguf", type=Path, metavar="FILE", help="the same model for llama.cpp")
    asked = options.parse_args()
    write_folder(asked.folder)
    if asked.gguf:
        write_gguf(asked.gguf)


if __name__ == "__main__":
    main()
