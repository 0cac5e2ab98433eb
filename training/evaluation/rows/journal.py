"""What a long evaluation has finished, scene by scene, so that the same command continues it after a stop."""

import json
from collections.abc import Iterator
from pathlib import Path

from runtime.parts import differences

from ...errors import TrainingError
from ...files import append_text, write_text

FORMAT = "visual_planner.closed_loop_runs"


class Journal:
    """Finished rows, one per line, in a file beside the results; without a file they are only kept in memory.

    Args:
        path: the file; None: none.
        made_from: settings and weights that the rows depend on, ready for JSON.
        begin_again: whether a file that belongs to something else is overwritten; otherwise it is refused.
        remember: whether the rows stay in memory as well; otherwise only their keys do, and `lines` reads the rows.

    Attributes:
        rows: finished rows by key; each is None if rows are not remembered.

    Raises:
        TrainingError: the file exists and belongs to something else.
    """

    def __init__(self, path: Path | None, made_from: dict, begin_again: bool = False, remember: bool = True) -> None:
        self.path, self.rows, self._remember = path, {}, remember
        self._head = {"format": FORMAT, "version": 1, "made_from": made_from}
        if path is not None and path.is_file():
            self._read(self._head, begin_again)

    def add(self, finished: list[tuple[tuple, dict]]) -> None:
        """Keep rows by their key (seed, task, camera); they are on disk when this returns.

        Raises:
            WritingError: the file cannot be written; it is as it was.
        """
        self.rows |= {run: rows if self._remember else None for run, rows in finished}
        if self.path is None:
            return
        self.begin()
        text = "".join(json.dumps({"run": run, "rows": rows}) + "\n" for run, rows in finished)
        append_text(self.path, text, sync=True)

    def begin(self) -> None:
        """Write the file if it is missing."""
        if self.path is not None and not self.path.is_file():
            write_text(self.path, json.dumps(self._head) + "\n")

    def remove(self) -> None:
        """Remove the file once its results are written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _read(self, head: dict, begin_again: bool) -> None:
        whole, found = 0, None  # bytes, and the first line
        try:
            with self.path.open("rb") as stream:
                for number, line in enumerate(stream):
                    if not line.endswith(b"\n"):  # a killed run may have left half a line
                        break
                    whole += len(line)
                    record = json.loads(line)
                    if number == 0:
                        found = record
                    else:
                        self.rows[tuple(record["run"])] = record["rows"] if self._remember else None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise TrainingError(f"journal {self.path} cannot be read ({error}): remove it to start over") from error
        if found != json.loads(json.dumps(head)):
            if begin_again:
                print(f"settings or weights have changed since the interrupted run{_said(found, head)}: starting over")
                self.rows = {}
                return write_text(self.path, json.dumps(head) + "\n")
            raise TrainingError(
                f"journal {self.path} must belong to the same settings and weights, got others{_said(found, head)}: "
                "remove it to start over, or choose another --json"
            )
        if whole < self.path.stat().st_size:
            with self.path.open("r+b") as stream:
                stream.truncate(whole)


def _said(found: object, head: dict) -> str:
    held = found.get("made_from") if isinstance(found, dict) else None
    named = differences(held, head["made_from"]) if isinstance(held, dict) else []
    return f" ({'; '.join(named)})" if named else ""


def lines(path: Path) -> Iterator[tuple[tuple, dict]]:
    """Keys and rows of a journal, one in memory at a time."""
    with path.open("rb") as stream:
        next(stream)
        for line in stream:
            record = json.loads(line)
            yield tuple(record["run"]), record["rows"]
