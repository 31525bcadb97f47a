"""Keras callbacks: Resume continues a training exactly where it was killed; InputWait measures the wait for input.

    resume, wait = Resume("run", every=500), InputWait()
    train = tfpipe.make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224), options=resume.options())
    model.fit(
        wait.over(resume.over(train)), epochs=20, initial_epoch=resume.initial_epoch, callbacks=[resume, wait]
    )

Started again after a kill, the same lines load the model, its optimizer and the position in the data, and train on
exactly the batches that were not seen. Leaving one of them out is an error that names it, not a wrong training.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfpipe.reader.options import ReadOptions
from tfpipe.storage import STALE_SECONDS, remove_drafts, rename_drafts, replace_file
from tfpipe.tf_internals import CountedDataset
from tfpipe.tf_internals.clock import ClockedDataset

_POSITION, _WEIGHTS = "position.json", ".weights.h5"


@dataclass(frozen=True)
class Position:
    """The position of a training.

    Attributes:
      step: batches seen, counted from the first epoch of the data; the value for ReadOptions.start_step.
      epoch: the epoch of `fit` that the next batch belongs to.
      data_batches: batches in an epoch of the data; -1 where it repeats endlessly, -2 where that is unknown.
      weights: the file with the model and its optimizer.
      generators: the states of the model's random generators, such as dropout's; weights files do not have them.
    """

    step: int = 0
    epoch: int = 0
    data_batches: int = -2
    weights: str = ""
    generators: tuple[tuple[int, ...], ...] = ()


class Resume(keras.callbacks.Callback):
    """Saves model, optimizer and position in the data together, and restores them when the script is started again.

    A save is a weights file, then a position.json that names it, each renamed when it is complete: a kill at any moment
    leaves the previous save. State of `fit` itself, such as the running mean of a metric or the patience of
    EarlyStopping, starts again. With steps_per_epoch the interrupted epoch gets all its steps again, over batches that
    were not seen yet. Distribution strategies are refused: with them, fit reads a batch before the first step.
    """

    def __init__(self, directory: str | os.PathLike[str], *, every: int | None = None) -> None:
        """Loads the position of the last save, if there is one.

        Args:
          directory: of the save; for this training alone.
          every: steps between saves; at the end of each epoch there is a save in any case, with None only there.
        """
        super().__init__()
        if every is not None and every < 1:
            raise ValueError(f"every is {every}; it must be at least 1, or None for the ends of epochs only.")
        self._directory = Path(directory)
        self._every = every
        self._start = self._now = _load_position(self._directory / _POSITION)
        self._given: set[str] = set()
        self._saved_step = self._start.step
        self._batch_begun = 0
        self._spec: Any = None
        self._quiet: warnings.catch_warnings[Any] | None = None

    @property
    def initial_epoch(self) -> int:
        """The value for fit's initial_epoch."""
        return self._start.epoch

    def options(self, options: ReadOptions = ReadOptions()) -> ReadOptions:  # noqa: B008 (frozen)
        """The options with which make_dataset begins at the saved position."""
        self._given.add("options")
        return dataclasses.replace(options, start_step=self._start.step)

    def over(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The dataset for fit; give fit the returned one, since fit takes all epochs to be as long as the first.

        Args:
          dataset: from make_dataset with these options, possibly mapped or repeated; it is not changed.

        Returns:
          In the middle of an epoch, a CountedDataset of the same batches, with the cardinality of a whole epoch; the
          first, shorter epoch is ended by this callback. Otherwise the dataset itself.

        Raises:
          ValueError: its length does not fit the save: another batch size, other data, or other options.
        """
        self._given.add("over")
        self._spec = dataset.element_spec
        batches, before = int(dataset.cardinality()), self._start.data_batches
        seen = self._start.step % before if before > 0 else 0
        if self._start.step and before > 0 and batches not in (before - seen, -2):
            raise ValueError(
                f"The dataset has {batches} batches to come, but {self._directory} was saved at step "
                f"{self._start.step} of epochs of {before}: {before - seen} are left. Was the batch size or the data "
                "changed, or options=resume.options() left out?"
            )
        full = before if self._start.step else batches
        self._now = dataclasses.replace(self._start, data_batches=full)
        if seen:
            # fit asks once for the number of batches and expects it in every epoch.
            return CountedDataset(dataset, lambda: full)
        return dataset

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks that nothing was left out, and loads the save, if there is one."""
        for name, line in (("options", "make_dataset(..., options=resume.options())"), ("over", "resume.over(train)")):
            if name not in self._given:
                raise ValueError(f"Resume needs {line}; the data would not continue where the model does.")
        if "Default" not in type(self.model.distribute_strategy).__name__:
            raise ValueError("Resume counts batches wrongly under a distribution strategy.")
        if self._start.weights:
            self._load_model(self._directory / self._start.weights)

    def _load_model(self, path: Path) -> None:
        if not self.model.built:
            inputs = self._spec[0] if isinstance(self._spec, tuple) else self._spec
            # A call builds every kind of model; build() does not build one whose layers are created in its __init__.
            self.model(tf.nest.map_structure(lambda s: tf.zeros([size or 1 for size in s.shape], s.dtype), inputs))
        self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(path)
        for variable, state in zip(_generators(self.model), self._start.generators, strict=True):
            variable.assign(np.array(state, variable.dtype))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Raises ValueError for an epoch other than the one that was interrupted."""
        if epoch != self._now.epoch:
            raise ValueError(
                f"fit begins epoch {epoch}, but the data is in epoch {self._now.epoch}; "
                "give fit initial_epoch=resume.initial_epoch."
            )

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the first of the batches that fit runs together; ends a resumed epoch when its rest has been seen."""
        if self._is_over:
            # A step without a batch would still draw random numbers and count; fit takes this as the end of the data.
            self._quiet = warnings.catch_warnings()
            self._quiet.__enter__()
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            raise StopIteration
        self._batch_begun = batch

    @property
    def _is_over(self) -> bool:
        """Whether the rest of the interrupted epoch has been seen."""
        length, step = self._now.data_batches, self._now.step
        in_rest = length > 0 and self._start.step % length > 0 and self._now.epoch == self._start.epoch
        return in_rest and step > self._start.step and step % length == 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts the batches, and saves after every `every` steps."""
        step = self._now.step + batch - self._batch_begun + 1
        length = self._now.data_batches
        if length > 0:
            # Several steps that fit runs together may run over the end of the data.
            step = min(step, (self._now.step // length + 1) * length)
        self._now = dataclasses.replace(self._now, step=step)
        if self._every is not None and step - self._saved_step >= self._every:
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, with the next epoch as position."""
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None
        self._now = dataclasses.replace(self._now, epoch=epoch + 1)
        self._save()

    def _save(self) -> None:
        """Writes the weights beside the previous ones, then a position that names them."""
        self._directory.mkdir(parents=True, exist_ok=True)
        step, epoch = self._now.step, self._now.epoch
        length = self._now.data_batches
        if length > 0 and self.params.get("steps") == length:
            # After the last batch of an epoch, but before on_epoch_end: nothing of the epoch is left.
            epoch = max(epoch, step // length)
        name = f"step-{step}-epoch-{epoch}{_WEIGHTS}"
        temporary = self._directory / f"unfinished{_WEIGHTS}"
        self.model.save_weights(temporary, overwrite=True)
        rename_drafts({temporary: self._directory / name})
        generators = tuple(tuple(map(int, variable.numpy())) for variable in _generators(self.model))
        position = dataclasses.replace(self._now, epoch=epoch, weights=name, generators=generators)
        text = json.dumps(dataclasses.asdict(position)) + "\n"
        replace_file(self._directory / _POSITION, text.encode())
        remove_drafts(self._directory, older_than=STALE_SECONDS)
        for old in self._directory.glob(f"*{_WEIGHTS}"):
            if old.name != name:
                old.unlink()
        self._saved_step = step


def _load_position(path: Path) -> Position:
    if not path.exists():
        return Position()
    try:
        return Position(**json.loads(path.read_text()))
    except (json.JSONDecodeError, TypeError) as error:
        raise ValueError(f"{path} is not a position of a training; remove its folder to start again.") from error


def _generators(model: keras.Model) -> list[Any]:
    """The states of a model's random generators, uint32 [2] each."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


class InputWait(keras.callbacks.Callback):
    """Reports the share of the training time that is spent waiting for input: in progress bar and logs, at epoch ends.

    The clock is read where fit takes a batch from the dataset's iterator: before, and when it has it. So batches that
    are made during the step do not count, as they should not. `input_wait` in the logs is the share of the epoch's time
    so far, in [0, 1]. Stages that come after the clock hide it, such as those of fit's class_weight or of a
    distribution strategy: then a warning says that nothing was measured.
    """

    def __init__(self, *, log_dir: str | os.PathLike[str] | None = None, verbose: bool = True) -> None:
        """Prepares the measurement of one fit.

        Args:
          log_dir: folder for TensorBoard scalars: each step's input_wait_seconds and step_seconds, and each epoch's
            input_wait. The tensorboard package is needed to view them, not to write them.
          verbose: print a sentence at the end of each epoch.
        """
        super().__init__()
        self._writer = None if log_dir is None else tf.summary.create_file_writer(os.fspath(log_dir))
        self._verbose = verbose
        self._waited: tf.Variable | None = None
        self._steps = self._epoch_steps = 0
        self._epoch_begun = self._last_end = self._waited_before = self._waited_so_far = 0.0

    def over(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The dataset with a clock in its iterators; give fit the returned one, without further stages.

        No stage is added: batches that ReadOptions(device=) puts on a device stay there.
        """
        timed = ClockedDataset(dataset)
        self._waited = timed.waited
        return timed

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Raises ValueError for a fit whose dataset has no clock."""
        if self._waited is None:
            raise ValueError("InputWait needs wait.over(train) as the dataset of fit.")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's clocks."""
        self._epoch_begun = self._last_end = time.perf_counter()
        self._waited_before = self._waited_so_far = self._read()
        self._epoch_steps = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the share so far into the logs, and the step's times into TensorBoard's scalars."""
        now, waited = time.perf_counter(), self._read()
        step_seconds, wait_seconds = now - self._last_end, waited - self._waited_so_far
        self._last_end, self._waited_so_far = now, waited
        self._steps += 1
        self._epoch_steps += 1
        if logs is not None:
            logs["input_wait"] = self._share
        self._write(self._steps, input_wait_seconds=wait_seconds, step_seconds=step_seconds)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Reports the wait of the epoch; validation does not count. Warns where the clock was never read."""
        if self._epoch_steps and not self.waited_seconds:
            warnings.warn(
                "InputWait measured nothing: fit put stages behind wait.over(train), as it does for class_weight and "
                "under a distribution strategy.",
                stacklevel=2,
            )
            return
        if logs is not None:
            logs["input_wait"] = self._share
        self._write(epoch, input_wait=self._share)
        if self._verbose and self._epoch_steps:
            print(f"\n{self.sentence}", file=sys.stderr)

    @property
    def waited_seconds(self) -> float:
        """The time that the last epoch waited for input."""
        return self._waited_so_far - self._waited_before

    @property
    def sentence(self) -> str:
        """The wait of the last epoch, in words."""
        device = "GPU" if tf.config.list_physical_devices("GPU") else "processor"
        steps = max(self._epoch_steps, 1)
        wait = self.waited_seconds / steps
        whole = (self._last_end - self._epoch_begun) / steps
        return (
            f"Your {device} waits {self._share:.0%} of the time for input: "
            f"{1000 * wait:.1f} of {1000 * whole:.1f} ms a step."
        )

    @property
    def _share(self) -> float:
        spent = self._last_end - self._epoch_begun
        return min(1.0, self.waited_seconds / spent) if spent > 0 else 0.0

    def _read(self) -> float:
        return 0.0 if self._waited is None else float(self._waited)

    def _write(self, step: int, **values: float) -> None:
        if self._writer is None:
            return
        # tf.summary.scalar needs the tensorboard package, which TensorFlow no longer installs; this is its format.
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.write(f"tfpipe/{name}", tf.constant(value, tf.float32), step, metadata)
        self._writer.flush()
