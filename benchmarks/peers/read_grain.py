"""Grain on ArrayRecord files, OpenCV decoding; global shuffle, as many threads as cores.

python read_grain.py TASK FOLDER PASSES | --prepare
"""

import glob
import struct
from pathlib import Path

import cv2
import grain
import numpy as np
import reading
from array_record.python.array_record_module import ArrayRecordWriter

cv2.setNumThreads(1)


def prepare(folder):
    Path(folder, "grain").mkdir(exist_ok=True)
    writer = ArrayRecordWriter(f"{folder}/grain/photos.array_record", "group_size:1")
    for path, label in reading.photos(folder):
        writer.write(struct.pack("<q", label) + Path(path).read_bytes())
    writer.close()


def decode(record):
    image = cv2.imdecode(np.frombuffer(record, np.uint8, offset=8), cv2.IMREAD_COLOR_RGB)
    label = np.zeros(reading.CLASSES, np.float32)
    label[struct.unpack_from("<q", record)[0]] = 1
    return cv2.resize(image, (reading.SIDE, reading.SIDE), interpolation=cv2.INTER_LINEAR), label


FREE = np.zeros((reading.SIDE, reading.SIDE, 3), np.uint8), np.zeros(reading.CLASSES, np.float32)


def jpeg(folder, decode=decode):
    source = grain.sources.ArrayRecordDataSource(glob.glob(f"{folder}/grain/*.array_record"))
    records = grain.MapDataset.source(source).repeat(reading.copies).shuffle(seed=0).map(decode)
    options = grain.ReadOptions(num_threads=reading.WORKERS, prefetch_buffer_size=4 * reading.WORKERS)
    return records.to_iter_dataset(options).batch(reading.BATCH, drop_remainder=True)


if __name__ == "__main__":
    reading.main({"jpeg": jpeg, "jpeg_free": lambda folder: jpeg(folder, lambda record: FREE)}, prepare)
