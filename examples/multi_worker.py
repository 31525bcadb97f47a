"""Trains with two processes of MultiWorkerMirroredStrategy on this machine; each reads its own batches.

    python examples/multi_worker.py photos_tfrecord

On several machines start `--worker` on each, with the TF_CONFIG that names them all. The weights of both are compared
at the end: they are equal where both took all steps together.
"""

import argparse
import json
import os
import socket
import subprocess
import sys

WORKERS = 2


def train(dataset: str, steps: int) -> None:
    """One worker's training."""
    import tensorflow as tf

    # Before anything else of TensorFlow: it connects the workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    import keras

    import tfpipe

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        options = tfpipe.ReadOptions(host_index=context.input_pipeline_id, host_count=context.num_input_pipelines)
        return tfpipe.make_dataset(dataset, batch_size=8, image_size=32, repeat=True, options=options)

    classes = len(tfpipe.load_manifest(dataset).class_names)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        weights = tf.Variable(tf.zeros([32 * 32 * 3, classes]))

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        pixels = tf.reshape(tf.cast(images, tf.float32) / 255 - 0.5, [8, -1])
        with tf.GradientTape() as tape:
            losses = tf.nn.softmax_cross_entropy_with_logits(labels, pixels @ weights)
            loss = tf.reduce_sum(losses) / (8 * WORKERS)
        gradient = tape.gradient(loss, weights)
        replica = tf.distribute.get_replica_context()
        weights.assign_sub(0.01 * replica.all_reduce("sum", gradient))
        return loss

    @tf.function
    def together(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        losses = strategy.run(step, args=(images, labels))
        return strategy.reduce("sum", losses, axis=None)

    inputs = iter(strategy.distribute_datasets_from_function(batches))
    for number in range(steps):
        loss = together(*next(inputs))
        if number % 5 == 0 or number == steps - 1:
            print(f"step {number}: loss {float(loss):.4f}", flush=True)
    print(f"weights {float(tf.reduce_sum(tf.abs(weights))):.6f}", flush=True)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, for the workers to find each other."""
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("localhost", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--worker", action="store_true", help="be the worker that TF_CONFIG says")
    arguments = parser.parse_args()
    if arguments.worker:
        train(arguments.dataset, arguments.steps)
        return
    addresses = [f"localhost:{port}" for port in free_ports(WORKERS)]
    workers = []
    for index in range(WORKERS):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        command = [sys.executable, __file__, arguments.dataset, "--steps", str(arguments.steps), "--worker"]
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"}
        workers.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    said = [worker.communicate(timeout=300)[0] for worker in workers]
    print(said[0])
    if any(worker.returncode for worker in workers):
        sys.exit("A worker failed.")
    first, second = (text.rstrip().splitlines()[-1] for text in said)
    if first != second:
        sys.exit(f"The workers came apart: {first} and {second}.")
    print("both workers have the same weights")


if __name__ == "__main__":
    main()
