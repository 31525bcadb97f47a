"""Several hosts, and devices: two processes that train together, and batches placed where they are asked for."""

import json
import os
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions, for_host


def test_an_input_context_names_host_and_count():
    context = tf.distribute.InputContext(num_input_pipelines=3, input_pipeline_id=1, num_replicas_in_sync=3)
    options = for_host(context, ReadOptions(prefetch=2))
    assert (options.host_index, options.host_count, options.prefetch) == (1, 3, 2)


TRAIN = """
import json, sys
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import for_host

def of_host(context):
    return make_dataset(sys.argv[1], batch_size=4, image_size=(6, 8), labels=None, options=for_host(context))

batches = strategy.distribute_datasets_from_function(of_host)
with strategy.scope():
    weight = tf.Variable(0.0)

@tf.function
def step(batch):
    def replica(batch):
        mean = tf.reduce_mean(tf.cast(batch["image"], tf.float32)) / 255
        weight.assign(mean)
        return tf.distribute.get_replica_context().all_reduce("SUM", mean)
    return strategy.run(replica, args=(batch,))

keys, sums = [], []
for batch in batches:
    sums.append(round(float(strategy.experimental_local_results(step(batch))[0]), 4))
    keys.append([key.decode() for key in strategy.experimental_local_results(batch["key"])[0].numpy()])
print(json.dumps({"keys": keys, "sums": sums}))
"""


def _free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_two_processes_train_in_step_on_different_records(raw_dataset):
    workers = [f"localhost:{port}" for port in _free_ports(2)]
    processes = []
    for index in range(2):
        cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(cluster)}
        command = [sys.executable, "-c", TRAIN, str(raw_dataset.directory)]
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    try:
        results = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert results[0]["sums"] == results[1]["sums"]
    seen = [key for result in results for batch in result["keys"] for key in batch]
    assert len(seen) == len(set(seen))
    one = make_dataset(raw_dataset, batch_size=4, image_size=(6, 8), labels=None)
    order = [[key.decode() for key in batch["key"].numpy()] for batch in one]
    merged = [batch for pair in zip(*(result["keys"] for result in results), strict=True) for batch in pair]
    assert merged == order[: len(merged)]
    assert len(merged) == len(order) // 2 * 2


PLACED = """
import sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions
from tfpipe.tf_internals.clock import ClockedDataset

def noted(batch, seed):
    return {**batch, "label": batch["label"] + 1}

dataset = make_dataset(
    sys.argv[1],
    batch_size=4,
    image_size=(6, 8),
    transforms=[noted],
    repeat=len(sys.argv) > 2,
    options=ReadOptions(device="/cpu:1"),
)
stage = dataset
while "Map" not in type(stage).__name__:
    (stage,) = stage._inputs()
print("transforms", stage._variant_tensor.device[-5:])
print("decoding", stage._inputs()[0]._inputs()[0]._variant_tensor.device[-5:])
for number, (images, labels) in enumerate(dataset):
    if len(sys.argv) > 2 and number == 2 * int(sys.argv[2]) + 1:
        break
    print("batch", images.device[-5:], labels.device[-5:], float(tf.reduce_min(labels)))
clocked = ClockedDataset(dataset)
print("clocked", next(iter(clocked))[0].device[-5:], float(clocked.waited) > 0)
"""


@pytest.mark.parametrize("repeat", [False, True])
def test_batches_and_transforms_are_placed_on_the_device(raw_dataset, repeat):
    """Two logical CPUs in place of a CPU and a GPU: no GPU is used. A map stage runs its function on its own device."""
    batches = raw_dataset.num_records("train") // 4
    command = [sys.executable, "-c", PLACED, str(raw_dataset.directory), *[str(batches)] * repeat]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[:2] == ["transforms CPU:1", "decoding CPU:0"]
    assert lines[2:-1] == ["batch CPU:1 CPU:1 1.0"] * (2 * batches + 1 if repeat else batches)
    assert lines[-1] == "clocked CPU:1 True"
