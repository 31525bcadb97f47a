"""WebDataset tars, OpenCV decoding, a shuffle of 1,000; one DataLoader process for each core.

python read_webdataset.py TASK FOLDER PASSES | --prepare
"""

import glob
from pathlib import Path

import cv2
import numpy as np
import reading
import webdataset as wds

cv2.setNumThreads(1)


def prepare(folder):
    Path(folder, "webdataset").mkdir(exist_ok=True)
    with wds.ShardWriter(f"{folder}/webdataset/photos-%03d.tar", maxcount=640, verbose=0) as writer:
        for number, (path, label) in enumerate(reading.photos(folder)):
            writer.write({"__key__": f"{number:06d}", "jpg": Path(path).read_bytes(), "cls": label})


def decode(sample):
    image = cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_COLOR_RGB)
    label = np.zeros(reading.CLASSES, np.float32)
    label[int(sample["cls"])] = 1
    return cv2.resize(image, (reading.SIDE, reading.SIDE), interpolation=cv2.INTER_LINEAR), label


def jpeg(folder):
    shards = sorted(glob.glob(f"{folder}/webdataset/*.tar"))
    samples = wds.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000).map(decode)
    batches = samples.batched(reading.BATCH, partial=False)
    return wds.WebLoader(batches, batch_size=None, num_workers=reading.WORKERS, persistent_workers=True)


if __name__ == "__main__":
    reading.main({"jpeg": jpeg}, prepare)
