"""A tf.data service on loopback: every record once an epoch, from two workers."""

import os
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions
from tfpipe.reader.service import Service

SIZE = (6, 8)


@pytest.fixture(scope="module")
def service():
    with Service(workers=2) as running:
        yield running


def a_dataset(manifest, address, **settings):
    options = ReadOptions(service=address, **settings)
    return make_dataset(manifest, batch_size=2, image_size=SIZE, labels=None, seed=4, options=options)


def batches(dataset):
    return [(tuple(batch["key"].numpy()), batch["image"].numpy().tobytes()) for batch in dataset]


def test_every_epoch_holds_the_batches_that_one_host_reads(raw_dataset, service):
    here = make_dataset(
        raw_dataset, batch_size=2, image_size=SIZE, labels=None, seed=4, options=ReadOptions(block_records=1)
    )
    served = a_dataset(raw_dataset, service.address)
    assert served.cardinality() == here.cardinality()
    for _ in range(2):
        assert sorted(batches(served)) == sorted(batches(here))


def test_transforms_draw_on_the_workers_as_they_do_here(raw_dataset, service):
    def noted(batch, seed):
        return {**batch, "image": tf.zeros_like(batch["image"]) + tf.cast(seed[0] % 200, tf.uint8)}

    def pixels(options):
        dataset = make_dataset(
            raw_dataset, batch_size=4, image_size=SIZE, labels="int", transforms=[noted], options=options
        )
        return sorted(images.numpy().tobytes() for images, _ in dataset)

    assert pixels(ReadOptions(service=service.address)) == pixels(ReadOptions())


def test_what_workers_cannot_share_is_refused(raw_dataset, service):
    with pytest.raises(ValueError, match="read whole batches by random access"):
        a_dataset(raw_dataset, service.address, shuffle="buffer")
    with pytest.raises(ValueError, match="host_count must be 1"):
        a_dataset(raw_dataset, service.address, host_count=2)


def test_serve_prints_its_address_and_stops_when_terminated(raw_dataset):
    command = [sys.executable, "-m", "tfpipe", "serve", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("grpc://localhost:")
            served = batches(a_dataset(raw_dataset, address))
            assert len(set(served)) == raw_dataset.num_records("train") // 2
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
