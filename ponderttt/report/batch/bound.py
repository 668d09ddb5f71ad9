"""A module run as a program that ends when the process that started it does, however that ends.

`python -m ponderttt.report.batch.bound MODULE ARGUMENTS`. A report that is killed can stop nothing
any more, so it is the system that stops papermill, and then the kernel (Linux; elsewhere the kernel
looks for its parent itself).
"""

import ctypes
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Bind this process to its parent, then become the module that is named."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
