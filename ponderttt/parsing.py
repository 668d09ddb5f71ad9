"""Files that people write, parsed with their mistakes in mind: each mistake is one `InputError`.

Text is UTF-8, with or without a byte order mark. JSON and YAML are refused where a key is said
twice: the parsers would keep the last and say nothing.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from ponderttt.checks import said, shown
from ponderttt.errors import InputError

MOST_BYTES = 2**28
"""A file that is longer (or that never ends, as /dev/zero) is none that a person writes."""


def read_text(path: Path | str, expected: str) -> str:
    """The text of the file `path`; `expected` says what it should be."""
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}; expected {expected}") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{path} holds more than {MOST_BYTES // 2**20} MiB: expected {expected}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        raise InputError(
            f"{path} is not UTF-8 (line {line}): expected {expected}; save it as UTF-8"
        ) from error


def read_json(path: Path | str, expected: str) -> Any:
    """What the JSON in `path` says."""
    text = read_text(path, expected)
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply: expected {expected}") from error
    except ValueError as error:  # also of a number with thousands of digits
        raise InputError(f"{path} is not valid JSON ({error}): expected {expected}") from error


def read_yaml(path: Path | str, expected: str) -> dict[str, Any]:
    """The mapping that the YAML in `path` says; an empty file is an empty one."""
    text = read_text(path, expected)
    try:
        found = yaml.load(text, _Loader)  # a SafeLoader
    except RecursionError as error:
        raise InputError(f"{path} is nested too deeply: expected {expected}") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:
        # PyYAML meets `!!int ""` or a 13th month with whatever Python raises.
        reason = f"{path} is not valid YAML ({said(error)})"
        raise InputError(f"{reason}: expected {expected}") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {shown(found)}: expected {expected}")
    for key in found:
        if not isinstance(key, str):
            raise InputError(
                f"{path}: the name {shown(key)} is no text to YAML (on, yes and 1 are not): "
                f"expected {expected}; put it in quotes"
            )
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of `pairs`, each key once."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"the key {shown(twice)} is there twice")
    return found


class _Loader(yaml.SafeLoader):
    """YAML whose keys are there once, without anchors: a reference can stand for billions."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: *{event.anchor}, a reference")
        return super().compose_node(parent, index)

    def construct_scalar(self, node: Any) -> Any:
        number = str(node.tag).endswith((":int", ":float"))
        if number and (":" in node.value or re.fullmatch(r"[-+]?0[\d_]+", node.value)):
            where = f"line {node.start_mark.line + 1}"
            raise yaml.YAMLError(
                f"{where}: {node.value} is a number to base 8 or 60 to YAML; write it to base 10"
            )
        return super().construct_scalar(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key.value.__hash__ and str(key.value) in seen:
                where = f"line {key.start_mark.line + 1}"
                raise yaml.YAMLError(f"{where}: the key {shown(key.value)} is there twice")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)
