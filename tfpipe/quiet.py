"""Imports TensorFlow without its start-up messages, which no log level silences."""

from __future__ import annotations

import os
import sys


def load_tensorflow() -> None:
    """Imports TensorFlow and initializes its devices while stderr is discarded; errors are still raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow as tf

        tf.config.list_logical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
