"""Keras callbacks: a training that goes on exactly where it was killed, and how long the accelerator waits for input.

    resume, wait = Resume("run", every=500), InputWait()
    train = tfpipe.make_dataset("photos_tfrecord", batch_size=128, image_size=(224, 224), options=resume.options())
    model.fit(
        wait.over(resume.over(train)), epochs=20, initial_epoch=resume.initial_epoch, callbacks=[resume, wait]
    )

Started again after a kill, the same lines load the model, its optimizer and the position in the data, and see exactly
the batches that were not seen. Forgetting one of them is an error that names it, not a wrong training.
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
from tfpipe.storage import rename_draft, replace_file
from tfpipe.tf_internals import CountedDataset

_POSITION, _WEIGHTS = "position.json", ".weights.h5"


@dataclass(frozen=True)
class Position:
    """Where a training stands.

    Attributes:
      step: batches seen, counted from the first epoch of the data: ReadOptions.start_step.
      epoch: the epoch of fit that the next batch belongs to.
      data_batches: batches in an epoch of the data; -1 where it repeats endlessly, -2 where that is unknown.
      weights: the file with the model and its optimizer.
      generators: the states of the model's random generators, as dropout has them; weights files leave them out.
    """

    step: int = 0
    epoch: int = 0
    data_batches: int = -2
    weights: str = ""
    generators: tuple[tuple[int, ...], ...] = ()


class Resume(keras.callbacks.Callback):
    """Saves model, optimizer and position in the data together, and restores them when the script is started again.

    A save is one file that is renamed, then a position.json that is renamed and names it: a kill at any moment leaves
    the save before. What fit itself does not keep, such as the running mean of a metric or the patience of
    EarlyStopping, begins anew. With steps_per_epoch the epoch that was interrupted gets all its steps again, over
    batches that were not seen yet. Distribution strategies are refused: their fit reads a batch before the first.
    """

    def __init__(self, directory: str | os.PathLike[str], *, every: int | None = None) -> None:
        """A training that lives in a directory.

        Args:
          directory: holds the save; of this training alone.
          every: steps between saves; None saves at the end of each epoch only, as is always done.
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
        """What fit takes as initial_epoch."""
        return self._start.epoch

    def options(self, options: ReadOptions = ReadOptions()) -> ReadOptions:  # noqa: B008 (frozen)
        """The options with which make_dataset begins at the position."""
        self._given.add("options")
        return dataclasses.replace(options, start_step=self._start.step)

    def over(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The dataset as fit must get it: the first epoch may be shorter, and fit takes all for as long as the first.

        Args:
          dataset: what make_dataset made with these options, possibly mapped or repeated.

        Raises:
          ValueError: its length is not what the save tells: another batch size, other data, or other options.
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
            # fit asks once and expects as many in every epoch; the first one ends early.
            return CountedDataset(dataset, lambda: full)
        return dataset

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Loads the save, where there is one."""
        for name, line in (("options", "make_dataset(..., options=resume.options())"), ("over", "resume.over(train)")):
            if name not in self._given:
                raise ValueError(f"Resume needs {line}; the data would not be resumed where the model is.")
        if "Default" not in type(self.model.distribute_strategy).__name__:
            raise ValueError("Resume does not count right under a distribution strategy.")
        if self._start.weights:
            self._load_model(self._directory / self._start.weights)

    def _load_model(self, path: Path) -> None:
        if not self.model.built:
            inputs = self._spec[0] if isinstance(self._spec, tuple) else self._spec
            # A call builds every kind of model; build() does not build one whose layers are made in its __init__.
            self.model(tf.nest.map_structure(lambda s: tf.zeros([size or 1 for size in s.shape], s.dtype), inputs))
        self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(path)
        for variable, state in zip(_generators(self.model), self._start.generators, strict=True):
            variable.assign(np.array(state, variable.dtype))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Refuses an epoch other than the one that was interrupted."""
        if epoch != self._now.epoch:
            raise ValueError(
                f"fit begins epoch {epoch}, but the data stands in epoch {self._now.epoch}; "
                "give fit initial_epoch=resume.initial_epoch."
            )

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Notes the first of the batches that fit runs at once; ends an epoch of which only the rest was left."""
        if self._is_over:
            # A step that finds no batch would still draw random numbers and count; fit takes this for the data's end.
            self._quiet = warnings.catch_warnings()
            self._quiet.__enter__()
            warnings.filterwarnings("ignore", message="Your input ran out of data")
            raise StopIteration
        self._batch_begun = batch

    @property
    def _is_over(self) -> bool:
        """Whether the rest of the epoch that was interrupted has been seen."""
        length, step = self._now.data_batches, self._now.step
        in_rest = length > 0 and self._start.step % length > 0 and self._now.epoch == self._start.epoch
        return in_rest and step > self._start.step and step % length == 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Counts, and saves every so many steps."""
        step = self._now.step + batch - self._batch_begun + 1
        length = self._now.data_batches
        if length > 0:
            # The last of several steps at once may run over the end of the data.
            step = min(step, (self._now.step // length + 1) * length)
        self._now = dataclasses.replace(self._now, step=step)
        if self._every is not None and step - self._saved_step >= self._every:
            self._save()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves; the next batch belongs to the next epoch."""
        if self._quiet is not None:
            self._quiet.__exit__(None, None, None)
            self._quiet = None
        self._now = dataclasses.replace(self._now, epoch=epoch + 1)
        self._save()

    def _save(self) -> None:
        """Writes the weights beside the last ones, then points to them."""
        self._directory.mkdir(parents=True, exist_ok=True)
        step, epoch = self._now.step, self._now.epoch
        length = self._now.data_batches
        if length > 0 and self.params.get("steps") == length:
            # After the last batch of an epoch, but before its end: nothing of it is left.
            epoch = max(epoch, step // length)
        name = f"step-{step}-epoch-{epoch}{_WEIGHTS}"
        temporary = self._directory / f"unfinished{_WEIGHTS}"
        self.model.save_weights(temporary, overwrite=True)
        rename_draft(temporary, self._directory / name)
        generators = tuple(tuple(map(int, variable.numpy())) for variable in _generators(self.model))
        position = dataclasses.replace(self._now, epoch=epoch, weights=name, generators=generators)
        text = json.dumps(dataclasses.asdict(position)) + "\n"
        replace_file(self._directory / _POSITION, text.encode())
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
        raise ValueError(f"{path} is no position of a training; remove its folder to begin anew.") from error


def _generators(model: keras.Model) -> list[Any]:
    """The states of a model's random generators, uint32 [2] each."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


class InputWait(keras.callbacks.Callback):
    """Tells how much of the training time goes into waiting for input: in the progress bar, in logs, at epoch ends.

    The clock is read inside the dataset, behind its prefetching: when fit asks for a batch, and when it gets it. So
    batches that are made beside the step cost nothing, as they should. `input_wait` in the logs is the share of the
    epoch's time so far, in [0, 1]. Under a distribution strategy other than one device, batches are fetched ahead of
    the step, and the figure is too high.
    """

    def __init__(self, *, log_dir: str | os.PathLike[str] | None = None, verbose: bool = True) -> None:
        """A clock for one fit.

        Args:
          log_dir: TensorBoard scalars are written there, each step's input_wait_seconds and step_seconds and each
            epoch's input_wait. The tensorboard package is needed to look at them, not to write them.
          verbose: print a sentence at the end of each epoch.
        """
        super().__init__()
        self._writer = None if log_dir is None else tf.summary.create_file_writer(os.fspath(log_dir))
        self._verbose = verbose
        self._waited: tf.Variable | None = None
        self._steps = self._epoch_steps = 0
        self._epoch_begun = self._last_end = self._waited_before = self._waited_so_far = 0.0

    def over(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The dataset with the clock behind its last stage; what fit gets, and nothing may follow."""
        with tf.device("CPU:0"):
            waited = self._waited = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="input_wait_seconds")
        # zip asks its parts in turn: the first tells when it was asked, then the second is waited for.
        asked = tf.data.Dataset.from_tensors(0).repeat().map(lambda _: tf.timestamp())

        def got(asked_at: tf.Tensor, batch: Any) -> Any:
            with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
                now = tf.timestamp()
            with tf.control_dependencies([waited.assign_add(now - asked_at)]):
                return tf.nest.map_structure(tf.identity, batch, expand_composites=True)

        timed = tf.data.Dataset.zip(asked, dataset).map(got)
        settings = tf.data.Options()
        # Left on, it would put a prefetch behind the clock, and the clock would time that.
        settings.experimental_optimization.inject_prefetch = False
        return CountedDataset(timed.with_options(settings), lambda: int(dataset.cardinality()))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuses a fit whose dataset has no clock."""
        if self._waited is None:
            raise ValueError("InputWait needs wait.over(train) as the dataset of fit.")

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Starts the epoch's clocks."""
        self._epoch_begun = self._last_end = time.perf_counter()
        self._waited_before = self._waited_so_far = self._read()
        self._epoch_steps = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Puts the share so far into the logs, and the step's times into TensorBoard's."""
        now, waited = time.perf_counter(), self._read()
        step_seconds, wait_seconds = now - self._last_end, waited - self._waited_so_far
        self._last_end, self._waited_so_far = now, waited
        self._steps += 1
        self._epoch_steps += 1
        if logs is not None:
            logs["input_wait"] = self._share
        self._write(self._steps, input_wait_seconds=wait_seconds, step_seconds=step_seconds)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Says what the epoch waited; validation does not count."""
        if logs is not None:
            logs["input_wait"] = self._share
        self._write(epoch, input_wait=self._share)
        if self._verbose and self._epoch_steps:
            print(f"\n{self.sentence}", file=sys.stderr)

    @property
    def sentence(self) -> str:
        """What the last epoch waited, in words."""
        device = "GPU" if tf.config.list_physical_devices("GPU") else "processor"
        steps = max(self._epoch_steps, 1)
        wait = (self._waited_so_far - self._waited_before) / steps
        whole = (self._last_end - self._epoch_begun) / steps
        return (
            f"Your {device} waits {self._share:.0%} of the time for input: "
            f"{1000 * wait:.1f} of {1000 * whole:.1f} ms a step."
        )

    @property
    def _share(self) -> float:
        spent = self._last_end - self._epoch_begun
        return min(1.0, (self._waited_so_far - self._waited_before) / spent) if spent > 0 else 0.0

    def _read(self) -> float:
        return 0.0 if self._waited is None else float(self._waited)

    def _write(self, step: int, **values: float) -> None:
        if self._writer is None:
            return
        # tf.summary.scalar is the tensorboard package's, which TensorFlow no longer brings along; this is its format.
        plugin = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars")
        metadata = tf.compat.v1.SummaryMetadata(plugin_data=plugin)
        with self._writer.as_default():
            for name, value in values.items():
                tf.summary.write(f"tfpipe/{name}", tf.constant(value, tf.float32), step, metadata)
        self._writer.flush()
