"""img2dataset: the same files, served on loopback by a thread of this process, to TFRecord without resizing.

python convert_img2dataset.py FOLDER OUTPUT
"""

import csv
import functools
import http.server
import json
import os
import sys
import tempfile
import threading
import time


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """No line a request."""


def main() -> None:
    """Serves, converts, stops."""
    from img2dataset import download

    folder, output = sys.argv[1:]
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = [
        f"{c}/{f}" for c in sorted(os.listdir(folder)) if not c.startswith(".") for f in os.listdir(f"{folder}/{c}")
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".csv", newline="") as listing:
        rows = [[f"http://127.0.0.1:{server.server_port}/{name}", name.split("/")[0]] for name in names]
        csv.writer(listing).writerows([["url", "caption"], *rows])
        listing.flush()
        started = time.perf_counter()
        download(
            url_list=listing.name, output_folder=output, output_format="tfrecord", input_format="csv", url_col="url",
            caption_col="caption", processes_count=2, thread_count=16, resize_mode="no", number_sample_per_shard=1800,
            enable_wandb=False,
        )  # fmt: skip
        print(json.dumps({"seconds": time.perf_counter() - started, "images": len(names)}))
    server.shutdown()


if __name__ == "__main__":
    main()
