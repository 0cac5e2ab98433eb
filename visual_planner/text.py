"""Decode text: one rule for every text file that a person or another program wrote."""

import re

from .errors import PlannerError

_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_UTF8_MARK = b"\xef\xbb\xbf"
_BREAKS = re.compile(r"[ \t]*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+[ \t]*")


def decode_text(data: bytes, what: str, error: type[Exception] = PlannerError) -> str:
    """Text of UTF-8 with or without a byte order mark, or of UTF-16 with one; the mark is removed.

    Args:
        data: content of a file.
        what: names it in messages.
        error: class of the error to raise.

    Raises:
        PlannerError: (or `error`) it is text of another encoding, or no text; the message names the first wrong byte.
    """
    encoding, start = _UTF16.get(data[:2], "utf-8"), 2 if data[:2] in _UTF16 else 0
    if encoding == "utf-8" and data.startswith(_UTF8_MARK):
        start = len(_UTF8_MARK)
    try:
        text = data[start:].decode(encoding)
    except UnicodeDecodeError as problem:
        at = start + problem.start
        raise error(
            f"{what} must be UTF-8 text (or UTF-16 with a byte order mark), got byte 0x{data[at]:02x} at {at}"
        ) from None
    if "\0" in text:
        at = start + len(text[: text.index("\0")].encode(encoding))
        raise error(f"{what} must be UTF-8 text (or UTF-16 with a byte order mark), got a zero byte at {at}")
    return text


def text_lines(text: str) -> list[str]:
    """Lines of a text, which end at a line feed, with or without a carriage return; other separators do not end one."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines[:-1] if lines[-1] == "" else lines


def one_line(text: str) -> str:
    """A text without line breaks: each becomes a space, and the ends are stripped."""
    return _BREAKS.sub(" ", text).strip()
