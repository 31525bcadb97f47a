"""Starts a tf.data service on this machine: a dispatcher, and workers that read and decode for other machines.

Prints its address; ReadOptions(service=ADDRESS) reads from it. It runs until it is interrupted or terminated.
"""

from __future__ import annotations

import argparse
import json
import signal
import threading

EXAMPLES = """examples:
  tfpipe serve --workers 2
  tfpipe serve --workers 8 --port 5050 --host 10.0.0.1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the verb."""
    parser.add_argument("--workers", type=int, default=2, help="number of workers (default: 2)")
    parser.add_argument("--port", type=int, default=0, help="port of the dispatcher (default: a free one)")
    parser.add_argument("--host", default="localhost", help="this machine's name for trainers (default: localhost)")


def run(arguments: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM."""
    from tfpipe.reader.service import Service

    stopped = threading.Event()
    before = {name: signal.signal(name, lambda *_: stopped.set()) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Service(workers=arguments.workers, port=arguments.port, host=arguments.host) as service:
            text = json.dumps({"address": service.address, "workers": arguments.workers})
            print(text if arguments.json else service.address, flush=True)
            stopped.wait()
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
    return 0
