"""tfpipe's own reader, default options unless the task's name says otherwise.

python read_tfpipe.py TASK FOLDER PASSES
"""

import contextlib
from dataclasses import replace

import reading

import tfpipe
from tfpipe import ReadOptions
from tfpipe.reader.free_decoding import free_decoding

# The pixels of the packages beside it: four neighbours, the fast DCT.
JPEG = {"image_size": reading.SIDE, "resize": "stretch", "antialias": False}
SETTINGS = {
    "jpeg": {**JPEG, "options": ReadOptions(dct="fast")},
    "jpeg_in_sequence": {**JPEG, "options": ReadOptions(dct="fast", shuffle="none")},
    "jpeg_single_records": {**JPEG, "options": ReadOptions(dct="fast", block_records=1)},
    "antialias": {"image_size": reading.SIDE, "resize": "stretch"},
    "vectors": {"options": ReadOptions(shuffle="none")},
    "vectors_shuffled": {},
    "uint8": {},
    "uint8_in_sequence": {"options": ReadOptions(shuffle="none")},
}
FOLDERS = {"jpeg": "raw", "antialias": "raw", "vectors": "vectors", "uint8": "uint8"}


def make(task, *, is_free=False):
    def build(folder):
        manifest = tfpipe.load_manifest(f"{folder}/{FOLDERS[task.partition('_')[0]]}")
        part = manifest.split("train")
        often = replace(manifest, splits={"train": replace(part, shards=part.shards * reading.copies)})
        with free_decoding() if is_free else contextlib.nullcontext():
            return tfpipe.make_dataset(often, batch_size=reading.BATCH, **SETTINGS[task])

    return build


if __name__ == "__main__":
    free = {f"{task}_free": make(task, is_free=True) for task in SETTINGS if task.startswith("jpeg")}
    reading.main({**{task: make(task) for task in SETTINGS}, **free})
