"""Reading on other machines or processes: a tf.data service whose workers share the batches of every epoch.

    with Service(workers=2) as service:
        options = ReadOptions(service=service.address)
        train = make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224), options=options)

`tfpipe serve` keeps one running. Worker i of n reads the batches k * n + i, as one of several hosts would: each record
is read once an epoch, by one worker. Batches are delivered in the order in which they are ready.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import tensorflow as tf

from tfpipe.errors import SetupError, UsageError
from tfpipe.tf_internals import stop_server

_HERE = "localhost"


class Service:
    """A dispatcher and its workers, in this process.

    Attributes:
      address: the value for ReadOptions(service=...).
    """

    def __init__(self, *, workers: int = 2, port: int = 0, host: str = _HERE) -> None:
        """Starts dispatcher and workers.

        Args:
          workers: their number; each decodes on all cores of the machine.
          port: of the dispatcher; 0 takes a free one.
          host: the name by which other machines reach this one.

        Raises:
          UsageError: workers is below 1, the port is out of range, or nobody knows the host.
          SetupError: another program has the port.
        """
        if workers < 1 or not 0 <= port < 65536:
            raise UsageError(f"A service takes at least one worker and a port in [0, 65535], not {workers} and {port}.")
        _check_address(host, port)
        # The dispatcher must know its workers first: only then does each get a share of its own.
        names = [f"{host}:{free}" for free in _free_ports(workers)]
        service = tf.data.experimental.service
        self._dispatcher = service.DispatchServer(service.DispatcherConfig(port=port, worker_addresses=names))
        bound = self._dispatcher.target.rpartition(":")[2]
        self.address = f"grpc://{host}:{bound}"
        self._workers = [
            service.WorkerServer(
                service.WorkerConfig(
                    dispatcher_address=f"{host}:{bound}", worker_address=name, port=int(name.rpartition(":")[2])
                )
            )
            for name in names
        ]

    def stop(self) -> None:
        """Stops workers and dispatcher; datasets that read from them fail from then on."""
        for worker in self._workers:
            stop_server(worker)
        stop_server(self._dispatcher)

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()


def _check_address(host: str, port: int) -> None:
    """Raises for an address of which TensorFlow would say nothing: it waits for ever, or shares the port."""
    try:
        socket.getaddrinfo(host, None)
    except OSError as error:
        raise UsageError(f"The host is {host!r}, of which this machine knows no address: {error.strerror}.") from error
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # A port that was just given back is free.
        try:
            one.bind(("", port))
        except OSError as error:
            raise SetupError(f"The port {port} can't be taken: {error.strerror}.") from error


def _free_ports(count: int) -> list[int]:
    """Free ports, all held at once, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def take_share(numbers: tf.data.Dataset) -> tf.data.Dataset:
    """The batch numbers that the worker which runs this takes; all of them where there is no service."""
    hint = tf.data.experimental.SHARD_HINT
    return numbers.shard(hint, hint)


def read_from_workers(
    of_epoch: Callable[[tf.Tensor], tf.data.Dataset], address: str, numbers: tf.data.Dataset
) -> tf.data.Dataset:
    """The batches that the workers of a service make; each iteration is the next epoch.

    Args:
      of_epoch: the batches of an epoch; built anew for every epoch, since workers see no variable of this process.
      address: of the dispatcher.
      numbers: of the epochs, as order.epochs gives them.
    """
    service = tf.data.experimental.service
    spec = of_epoch(tf.constant(0, tf.int64)).element_spec

    def register(epoch: Any) -> Any:
        return service.register_dataset(address, of_epoch(tf.constant(epoch, tf.int64))).numpy()

    def read(epoch: tf.Tensor) -> tf.data.Dataset:
        identity = tf.ensure_shape(tf.numpy_function(register, [epoch], tf.string), [])
        return service.from_dataset_id(service.ShardingPolicy.HINT, address, identity, element_spec=spec)

    return numbers.flat_map(read)
