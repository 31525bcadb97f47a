"""NVIDIA DALI on the CPU: file reader, decoder, resize; a thread for each core.

python read_dali.py TASK FOLDER PASSES
"""

import numpy as np
import reading
from nvidia.dali import fn, pipeline_def, types


class Batches:
    """One epoch of a pipeline at each iteration: full batches."""

    def __init__(self, pipeline):
        self.pipeline = pipeline
        pipeline.build()
        self.count = next(iter(pipeline.reader_meta().values()))["epoch_size"] // reading.BATCH

    def __iter__(self):
        eye = np.eye(reading.CLASSES, dtype=np.float32)
        for _ in range(self.count):
            images, labels = self.pipeline.run()
            yield images.as_array(), eye[labels.as_array()[:, 0]]


def make(antialias):
    @pipeline_def(batch_size=reading.BATCH, num_threads=reading.WORKERS, device_id=None)
    def pipeline(folder):
        files, labels = fn.readers.file(file_root=f"{folder}/photos", random_shuffle=True)
        images = fn.decoders.image(files, device="cpu", output_type=types.RGB)
        images = fn.resize(
            images,
            resize_x=reading.SIDE,
            resize_y=reading.SIDE,
            antialias=antialias,
            interp_type=types.INTERP_LINEAR,
        )
        return images, labels

    return lambda folder: Batches(pipeline(folder))


if __name__ == "__main__":
    reading.main({"jpeg": make(False), "antialias": make(True)})
