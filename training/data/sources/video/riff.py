"""The chunks that an AVI file is made of."""

from pathlib import Path

_MOST = 1000
"Number of chunks that are looked at: OpenDML begins one per gigabyte."


def riff_is_whole(path: Path) -> bool:
    """Whether a file ends where its last RIFF chunk ends, or after it."""
    end, at = path.stat().st_size, 0
    with path.open("rb") as stream:
        for _ in range(_MOST):
            stream.seek(at)
            head = stream.read(8)
            if len(head) < 8 or head[:4] != b"RIFF":
                break
            at += 8 + int.from_bytes(head[4:], "little")
            if at > end:
                return False
            at += at % 2
    return True
