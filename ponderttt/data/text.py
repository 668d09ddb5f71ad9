"""Bytes to text and names to what can be printed: the one decoder of every reader here."""

import codecs
import os
import unicodedata
from pathlib import Path

_MARK = "\ufeff"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UNWRITTEN = frozenset({"Cn", "Co", "Cs", "Cc"})
"""Categories of characters that no text in UTF-16 has: two random bytes are often one of these."""

_UNPRINTED = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Categories of characters that would break a line, or cannot be written as UTF-8."""


class NotText(ValueError):
    """Why bytes are no text, in a few words."""


def decode_text(data: bytes, *, inner_marks: bool = False) -> str:
    r"""The text of a file: UTF-8, or UTF-16 that begins with its mark; lines end in a newline.

    The text is the same however its lines ended (LF, CRLF, CR), with a byte order mark or without:
    U+FEFF never comes out, wherever files were joined; with `inner_marks` one that is not the
    first character stays (in a package's code it is part of what was written). `NotText` says why
    there is no text.

    >>> decode_text(b"\xef\xbb\xbfone\rtwo\r\n")
    'one\ntwo\n'
    """
    try:
        if data.startswith(_UTF16):
            text = _with_newlines(data.decode("utf-16"))
            if any(_is_unwritten(c) for c in set(text)):
                raise NotText("not UTF-8")
            return text
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotText("binary" if b"\0" in data else "not UTF-8") from error
    if "\0" in text:
        raise NotText("binary")
    if inner_marks:
        return _with_newlines(text.removeprefix(_MARK))
    return plain(text)


def is_binary(head: bytes) -> bool:
    """Whether the beginning of a file tells that it is none of text."""
    return b"\0" in head and not head.startswith(_UTF16)


def plain(text: str) -> str:
    """`text` with one kind of line end and no U+FEFF. Half a character is `NotText`."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise NotText("not UTF-8") from error
    return _with_newlines(text.replace(_MARK, ""))


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_unwritten(character: str) -> bool:
    if character == _MARK:
        return True
    return unicodedata.category(character) in _UNWRITTEN and character not in "\t\n\f"


def printable(name: str | Path) -> str:
    r"""A name as valid UTF-8 of one line, another for each name: files are named by bytes.

    >>> printable(os.fsdecode(b"caf\xe9.py")), printable("a\nb"), printable("café.py")
    ('caf\\xe9.py', 'a\\nb', 'café.py')
    """
    text = os.fspath(name)
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, as Python keeps it
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character == "\\" or unicodedata.category(character) in _UNPRINTED:
        return character.encode("unicode_escape").decode()
    return character
