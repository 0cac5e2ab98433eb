"""Output of the launcher while it works: notes and progress on stderr, so that stdout holds only results."""

from __future__ import annotations

import shutil
import sys
import time


def note(text: str) -> None:
    """Print one line on stderr."""
    print(text, file=sys.stderr, flush=True)


class StatusLine:
    """A line that is rewritten in a terminal; elsewhere a new text is printed at most once in `every` seconds."""

    def __init__(self, title: str, every: float = 15.0) -> None:
        self.title = title
        self.every = every
        self.started = time.monotonic()
        self.terminal = sys.stderr.isatty()
        self._last_text = ""
        self._last_time = float("-inf")

    @property
    def seconds(self) -> float:
        """Seconds since the line was started [s]."""
        return time.monotonic() - self.started

    def update(self, text: str) -> None:
        """Show `text` after the title."""
        now = time.monotonic()
        if self.terminal:
            line = f"{self.title}: {text} [{self.seconds:.0f} s]"
            width = shutil.get_terminal_size().columns - 1
            print("\r\033[K" + line[:width], end="", file=sys.stderr, flush=True)
        elif text != self._last_text and now - self._last_time >= self.every:
            note(f"{self.title}: {text} [{self.seconds:.0f} s]")
            self._last_time = now
        self._last_text = text

    def close(self, text: str | None = None) -> None:
        """Remove the rewritten line and print a last one."""
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        if text is not None:
            note(f"{self.title}: {text} [{self.seconds:.0f} s]")
