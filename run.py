#!/usr/bin/env python3
"""One command for everything: `python3 run.py demo | serve | test | bench`. Needs only Python 3.11 or newer."""

import sys

if sys.version_info < (3, 11):
    found = (sys.version_info[0], sys.version_info[1], sys.executable)
    sys.exit("run.py needs Python 3.11 or newer, this is Python %d.%d (%s)" % found)

from launcher.bootstrap import main

if __name__ == "__main__":
    sys.exit(main())
