#!/usr/bin/env python3
"""One command for everything: `python3 run.py demo | serve | test | bench`. Needs only Python 3.11 to 3.14."""

import os
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)


def other_python():
    """Command of a Python in the range: one on the PATH, else the one that uv has or fetches; None without."""
    try:
        from shutil import which
    except ImportError:  # Python 2
        return None
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = which("python3.%d" % minor)
        if found and os.path.realpath(found) != os.path.realpath(sys.executable) and answers([found], minor):
            return [found]
    uv = which("uv")
    command = [uv, "run", "--no-project", "--python", "%d.%d" % (OLDEST[0], NEWEST[1] - 1), "python"]
    return command if uv and answers(command, NEWEST[1] - 1) else None


def answers(command, minor):
    """Whether a Python starts and is the one that its name says."""
    code = "import sys; sys.exit(sys.version_info[:2] != (3, %d))" % minor
    try:
        return _silent(command + ["-c", code]) == 0  # noqa: RUF005
    except OSError:
        return False


def _silent(command):
    with open(os.devnull, "w") as nowhere:
        return subprocess.call(command, stdout=nowhere, stderr=nowhere)


if not OLDEST <= sys.version_info[:2] <= NEWEST:
    command = None if os.environ.get("VISUAL_PLANNER_OTHER_PYTHON") else other_python()
    if command is None:
        sys.exit(
            "error: Python must be %d.%d to %d.%d, this is %d.%d (%s): install one of these (python.org, your system's "
            "packages, or `uv python install %d.%d`) and run the command again"
            % (OLDEST + NEWEST + tuple(sys.version_info[:2]) + (sys.executable,) + (NEWEST[0], NEWEST[1] - 1))
        )
    sys.exit(subprocess.call(command + sys.argv, env=dict(os.environ, VISUAL_PLANNER_OTHER_PYTHON="1")))

from launcher.bootstrap import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
