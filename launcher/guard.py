"""Start a program that must not outlive its parent: `guard.py PARENT_PID PROGRAM ARGUMENTS...` (Linux).

The kernel is asked to kill this process when its parent dies for any reason; the request survives `exec`.
A separate program because Python code between fork and exec is unsafe in a process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):  # the parent died before the request was made
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])
