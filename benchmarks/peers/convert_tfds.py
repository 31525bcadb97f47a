"""TFDS: a folder of images to its own TFRecord files, with its Beam writer or without.

python convert_tfds.py FOLDER OUTPUT [--beam]
"""

import json
import os
import sys
import time

import tensorflow_datasets as tfds
from etils import epath

FOLDER = sys.argv[1]


def examples(names):
    """Yields (key, example) of every file of some classes."""
    for name in names:
        for file in sorted(os.listdir(f"{FOLDER}/{name}")):
            yield f"{name}/{file}", {"image": f"{FOLDER}/{name}/{file}", "label": name}


CLASSES = sorted(name for name in os.listdir(FOLDER) if not name.startswith("."))


class Photos(tfds.core.GeneratorBasedBuilder):
    """The folder's photos."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = epath.Path(__file__).parent  # TFDS looks for it as a package, which a script is not.

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=CLASSES),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        if "--beam" not in sys.argv:
            return examples(CLASSES)
        beam = tfds.core.lazy_imports.apache_beam
        return beam.Create(CLASSES) | beam.FlatMap(lambda name: list(examples([name])))


if __name__ == "__main__":
    started = time.perf_counter()
    builder = Photos(data_dir=sys.argv[2])
    options = {}
    if "--beam" in sys.argv:
        import apache_beam as beam
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        options["beam_runner"] = FnApiRunner()
        options["beam_options"] = beam.options.pipeline_options.PipelineOptions([])
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**options))
    count = builder.info.splits["train"].num_examples
    print(json.dumps({"seconds": time.perf_counter() - started, "images": count}))
