"""What a long evaluation has finished, scene by scene, so that it can be stopped and goes on with the same command."""

import json
from pathlib import Path

from ...errors import TrainingError
from ...files import append_text, read_text, write_text

FORMAT = "visual_planner.closed_loop_runs"


class Journal:
    """Rows of finished scenes, a line each, in a file beside the results; without a file they are only remembered.

    Args:
        path: the file; None: none.
        made_from: settings and weights that the rows depend on, ready for JSON.

    Raises:
        TrainingError: the file is there and belongs to something else.
    """

    def __init__(self, path: Path | None, made_from: dict) -> None:
        self.path, self.rows = path, {}
        if path is None:
            return
        head = {"format": FORMAT, "version": 1, "made_from": made_from}
        if path.is_file():
            self._read(head)
        else:
            write_text(path, json.dumps(head) + "\n")

    def add(self, finished: list[tuple[tuple[int, str, str], dict]]) -> None:
        """Keep rows of scenes (seed, task, camera); they are on the disk when this returns.

        Raises:
            WritingError: the file cannot be written; it is as it was.
        """
        self.rows |= dict(finished)
        if self.path is None:
            return
        text = "".join(json.dumps({"run": run, "rows": rows}) + "\n" for run, rows in finished)
        append_text(self.path, text, sync=True)

    def remove(self) -> None:
        """Take the file away: its results are written."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _read(self, head: dict) -> None:
        text = read_text(self.path, "journal")
        whole = text[: text.rfind("\n") + 1]  # a run that was killed may have left half a line
        lines = whole.splitlines()
        try:
            found = json.loads(lines[0]) if lines else None
            rows = [json.loads(line) for line in lines[1:]]
            self.rows = {tuple(line["run"]): line["rows"] for line in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise TrainingError(f"journal {self.path} cannot be read ({error}): remove it to start over") from error
        if found != json.loads(json.dumps(head)):
            raise TrainingError(
                f"journal {self.path} must belong to the same settings and weights, got others: remove it to start "
                "over, or choose another --json"
            )
        if len(whole) < len(text):
            write_text(self.path, whole)
