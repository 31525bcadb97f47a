"""MosaicML streaming on MDS shards, OpenCV decoding, its shuffle; one DataLoader process for each core.

python read_mosaic.py TASK FOLDER PASSES | --prepare
"""

from pathlib import Path

import cv2
import numpy as np
import reading
from streaming import MDSWriter, StreamingDataset
from torch.utils.data import DataLoader

cv2.setNumThreads(1)


def prepare(folder):
    with MDSWriter(out=f"{folder}/mosaic", columns={"image": "bytes", "label": "int"}) as writer:
        for path, label in reading.photos(folder):
            writer.write({"image": Path(path).read_bytes(), "label": label})


class Photos(StreamingDataset):
    """Decoded samples."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        image = cv2.imdecode(np.frombuffer(sample["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
        label = np.zeros(reading.CLASSES, np.float32)
        label[sample["label"]] = 1
        return cv2.resize(image, (reading.SIDE, reading.SIDE), interpolation=cv2.INTER_LINEAR), label


def jpeg(folder):
    dataset = Photos(local=f"{folder}/mosaic", shuffle=True, batch_size=reading.BATCH)
    return DataLoader(
        dataset, batch_size=reading.BATCH, num_workers=reading.WORKERS, drop_last=True, persistent_workers=True
    )


if __name__ == "__main__":
    reading.main({"jpeg": jpeg}, prepare)
