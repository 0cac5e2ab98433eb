"""Broken forms of good inputs: JSON by its structure, text by its words, bytes by flips, cuts and copies."""

import copy
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

LONGEST = 2**18
"""Longest input [bytes]: what is large may cost time."""
NUMBERS = (0, -1, 1, 2, 3.5, 2**31, 2**63, -(2**63), 10**30, 10**400, 1e308, -1e308, 1e-320, float("nan"), float("inf"))
TEXTS = (
    "", " ", "x", "../../x", "/etc/passwd", "C:\\x", "a\nb", "\x1b[2J\x1b[31m", "\u202e\u200f", "\ud800", "\0",
    "x" * 3000, "{}", "[]", "null", "{0.__class__}", "{episode_index:>1500000000}", "{x!r}", "%s", "nan", "1e400",
    "0x10", "²²", "é" * 80, "\u6293\u4f4f\u65b9\u5757", "text", "both", "2020-99-99", "<b>", "&amp;", "]]>", "\r\n",
    "\ufeff", "1_000", "true",
)  # fmt: skip


def value(random: Random, depth: int = 0) -> object:
    """A value that a field may be surprised by."""
    kind = random.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return random.choice(NUMBERS)
    if kind == 1:
        return random.choice(TEXTS)
    if kind == 2:
        return random.choice((None, True, False))
    if kind == 3:
        return random.choice(([], {}, [[]], [{}], {"": {}}, [None], [[[[]]]]))
    if kind == 4:
        return random.uniform(-1e4, 1e4) if random.random() < 0.5 else random.randrange(-5, 300)
    if kind == 5:
        return [value(random, depth + 1) for _ in range(random.randrange(5))]
    if kind == 6:
        return {random.choice(TEXTS): value(random, depth + 1) for _ in range(random.randrange(4))}
    return _deep(random.choice((3, 30, 62, 66, 150)))


def _deep(depth: int) -> object:
    found: object = 1
    for number in range(depth):
        found = [found] if number % 2 else {"a": found}
    return found


def _places(found: object, place: tuple = ()) -> list[tuple]:
    """Places of all parts of a value, as keys to follow."""
    places = [place]
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, part in items:
        places += _places(part, (*place, key))
        if len(places) > 400:
            break
    return places


def changed(random: Random, whole: object) -> object:
    """A value with one to three parts changed, removed, added, doubled or swapped."""
    whole = copy.deepcopy(whole)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        place = random.choice(_places(whole))
        if not place:
            if random.random() < 0.2:
                return value(random)
            continue
        home = whole
        for key in place[:-1]:
            home = home[key]
        key = place[-1]
        action = random.randrange(6)
        if action <= 2:
            home[key] = value(random)
        elif action == 3:
            del home[key]
        elif action == 4 and isinstance(home, dict):
            home[random.choice(TEXTS)] = value(random)
        elif isinstance(home, list):
            home[key:key] = [copy.deepcopy(home[key])] * random.choice((1, 2, 200))
        else:
            home[random.choice(list(home))] = home[key]
    return whole


def json_bytes(whole: object) -> bytes:
    """JSON of a value; numbers that JSON has not are written as Python does."""
    return json.dumps(whole, ensure_ascii=True).encode()


def of_json(seeds: Sequence[object]) -> tuple[list[bytes], Callable[[Random], bytes]]:
    """Inputs of JSON, good and broken: mostly another structure, sometimes another text."""

    def make(random: Random) -> bytes:
        data = json_bytes(changed(random, random.choice(seeds)))[:LONGEST]
        return text_change(random, data, _JSON_WORDS) if random.random() < 0.2 else data

    return [json_bytes(seed) for seed in seeds], make


def of_lines(rows: Sequence[object]) -> tuple[list[bytes], Callable[[Random], bytes]]:
    """Inputs of JSON lines, good and broken: one line's structure, or the order and ends of lines."""
    good = [json_bytes(row) for row in rows]

    def make(random: Random) -> bytes:
        lines = list(good)
        at = random.randrange(len(lines))
        lines[at] = json_bytes(changed(random, json.loads(lines[at])))
        if random.random() < 0.2:
            lines = [random.choice(lines) for _ in range(random.randrange(1, 6))]
        data = random.choice((b"\n", b"\r\n", b"\n\n")).join(lines)[:LONGEST] + random.choice((b"\n", b"", b"\x85"))
        return text_change(random, data, _JSON_WORDS) if random.random() < 0.2 else data

    return [b"\n".join(good) + b"\n"], make


_JSON_WORDS = (
    b"[" * 20000, b"{" * 500, b'"', b"\\", b",", b":", b"]", b"}", b"9" * 5000, b"1e999", b"NaN", b"-", b"\xff",
    b"\x00", b"\xef\xbb\xbf", b"\\ud800", b"'", b"//", b"\xe2\x80\xa8", b"\xff\xfe",
)  # fmt: skip


def text_change(random: Random, data: bytes, words: Sequence[bytes]) -> bytes:
    """A text with words put in, and pieces cut out, copied or exchanged."""
    for _ in range(random.choice((1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        action = random.randrange(5)
        if action <= 1:
            data = data[:at] + random.choice(words) + data[at:]
        elif action == 2:
            data = data[:at] + data[at + random.randrange(1, 30) :]
        elif action == 3:
            data = data[:at] + data[max(0, at - random.randrange(1, 60)) : at] * random.choice((1, 3, 300)) + data[at:]
        else:
            data = bytes_change(random, data)
    return data[:LONGEST]


def of_text(seeds: Sequence[bytes], words: Sequence[bytes]) -> tuple[Sequence[bytes], Callable[[Random], bytes]]:
    """Inputs of text, good and broken."""
    more = (*words, b"\n", b"\x00", b"\xff", b"\x1b[2J", b"x" * 9000)
    return seeds, lambda random: text_change(random, random.choice(seeds), more)


def bytes_change(random: Random, data: bytes) -> bytes:
    """Bytes with some flipped, set, cut or copied."""
    held = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        if not held:
            break
        at = random.randrange(len(held))
        action = random.randrange(6)
        if action == 0:
            held[at] ^= 1 << random.randrange(8)
        elif action == 1:
            held[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif action == 2:
            number = random.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x10000, random.randrange(2**32)))
            held[at : at + 4] = struct.pack(random.choice("<>") + "I", number)
        elif action == 3:
            del held[at : at + random.randrange(1, 40)]
        elif action == 4:
            held[at:at] = held[at : at + random.randrange(1, 40)]
        else:
            del held[random.randrange(len(held)) :]
    return bytes(held)


def of_bytes(seeds: Sequence[bytes]) -> tuple[Sequence[bytes], Callable[[Random], bytes]]:
    """Inputs of bytes, good and broken."""
    return seeds, lambda random: bytes_change(random, random.choice(seeds))


def of_png(seeds: Sequence[bytes]) -> tuple[Sequence[bytes], Callable[[Random], bytes]]:
    """Inputs of PNG, good and broken: chunks whose checksums are right although their content is broken."""

    def make(random: Random) -> bytes:
        data = random.choice(seeds)
        if random.random() < 0.3:
            return bytes_change(random, data)
        parts, at = [], 8
        while at + 12 <= len(data):
            (size,) = struct.unpack(">I", data[at : at + 4])
            parts.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + size]])
            at += 12 + size
        part = random.choice(parts)
        part[1] = bytes_change(random, part[1])
        if random.random() < 0.2:
            size = random.choice((0, 1, 65535, 65536, 2**31 - 1, 2**31, 30000))
            parts[0][1] = struct.pack(">II", size, random.choice((0, 1, size, 20000))) + parts[0][1][8:]
        if random.random() < 0.2:
            kind = random.choice((b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"eXIf", b"acTL", b"fdAT", b"gAMA"))
            content = random.choice((b"", b"x\0\0" + zlib.compress(bytes(2**20)), bytes(300), b"\xff" * 9))
            parts.insert(random.randrange(1, len(parts)), [kind, content])
        chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
        return data[:8] + b"".join(chunks)

    return seeds, make
