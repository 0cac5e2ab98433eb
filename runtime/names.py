"""Whether a name from data may become the name of a file."""

import re

NAME_BYTES = 200
"""Longest name in bytes that leaves room for a suffix."""
LONGEST = 255
"""Longest name in bytes that common file systems take."""
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\u2028\u2029\ud800-\udfff]|^[A-Za-z]:")


def is_file_name(name: object, most_bytes: int = NAME_BYTES) -> bool:
    """Whether a name from data can be a file name, in any folder and on any system.

    It may have letters of any script, but no separator, drive or control character; it must not be "." or "..", nor
    longer than `most_bytes` in UTF-8.
    """
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and _NOT_IN_NAMES.search(name) is None
        and len(name.encode()) <= most_bytes
    )
