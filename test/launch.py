# Copyright 2026 The SWA for TensorFlow authors
# SPDX-License-Identifier: MIT
"""Starts a run's processes, one for each rank; what the launchers call.

usage: launch.py LAUNCHER acc|perf 1|8 EPOCHS [--flag=value ...]
       launch.py --worker FOLDER -- command     one rank that horovodrun has started
"""

import os
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "test"), ROOT]

if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # no traceback of a Ctrl-C during the imports
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(128 + number))

    from launcher import main

    sys.exit(main.main(sys.argv[1:]))
