"""tfpipe's own reader, default options unless the task's name says otherwise.

python read_tfpipe.py TASK FOLDER PASSES
"""

import reading

import tfpipe
from tfpipe import ReadOptions

# The pixels of the packages beside it: four neighbours, the fast DCT.
JPEG = {"image_size": reading.SIDE, "resize": "stretch", "antialias": False}
SETTINGS = {
    "jpeg": {**JPEG, "options": ReadOptions(dct="fast")},
    "jpeg_in_sequence": {**JPEG, "options": ReadOptions(dct="fast", shuffle="none")},
    "antialias": {"image_size": reading.SIDE, "resize": "stretch"},
    "vectors": {"options": ReadOptions(shuffle="none")},
    "vectors_shuffled": {},
    "uint8": {},
    "uint8_in_sequence": {"options": ReadOptions(shuffle="none")},
}
FOLDERS = {"jpeg": "raw", "antialias": "raw", "vectors": "vectors", "uint8": "uint8"}


def make(task):
    def build(folder):
        name = FOLDERS[task.partition("_")[0]]
        return tfpipe.make_dataset(f"{folder}/{name}", batch_size=reading.BATCH, **SETTINGS[task])

    return build


if __name__ == "__main__":
    reading.main({task: make(task) for task in SETTINGS})
