"""A killed training continues exactly where it was saved, and the time spent waiting for input is measured right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpipe.callbacks import InputWait, Position, Resume
from tfpipe.format.manifest import Manifest, load_manifest
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions
from tfpipe.tf_internals import CountedDataset

BATCH, EPOCHS = 4, 3


class Noting(keras.Model):
    """Notes the keys of each batch that it is trained on; dies when it has noted `deadly` of them."""

    def __init__(self, deadly: int = -1) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(seed=1))
        self.dropout = keras.layers.Dropout(0.5, seed=2)
        self.seen: list[tuple[bytes, ...]] = []
        self.deadly = deadly

    def call(self, images, training=False):
        return self.dense(
            self.dropout(tf.reshape(tf.cast(images, tf.float32) / 255, [-1, 8 * 8 * 3]), training=training)
        )

    def train_step(self, data):
        images, keys = data
        note = tf.numpy_function(self.note, [keys], tf.float32, stateful=True)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self(images, training=True) - 1)) + 0 * note
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}

    def note(self, keys):
        self.seen.append(tuple(keys))
        print(b" ".join(keys).decode(), flush=True)
        if len(self.seen) == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.float32(0)


def train(manifest: Manifest, folder: Path, *, deadly: int = -1, epochs: int = EPOCHS, every: int | None = 3) -> Noting:
    """The few lines of a user, over (images, keys)."""
    resume = Resume(folder, every=every)
    dataset = make_dataset(
        manifest, batch_size=BATCH, image_size=(8, 8), labels=None, options=resume.options(ReadOptions())
    )
    pairs = dataset.map(lambda batch: (batch["image"], batch["key"]))
    pairs = CountedDataset(pairs, lambda: int(dataset.cardinality()))
    model = Noting(deadly)
    model.compile(optimizer=keras.optimizers.Adam(0.01), jit_compile=False)
    model.fit(resume.over(pairs), epochs=epochs, initial_epoch=resume.initial_epoch, callbacks=[resume], verbose=0)
    return model


def run(manifest: Manifest, folder: Path, *, deadly: int) -> tuple[int, list[tuple[bytes, ...]]]:
    """The same in a process of its own: its exit code, and the keys that it saw."""
    command = [sys.executable, __file__, str(manifest.directory), str(folder), str(deadly)]
    path = os.pathsep.join([str(Path(__file__).parent / "support"), str(Path(__file__).parent.parent)])
    result = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": path}, check=False)
    return result.returncode, [tuple(line.split()) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def undisturbed(raw_dataset: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Noting:
    return train(raw_dataset, tmp_path_factory.mktemp("undisturbed"))


def test_a_fit_that_is_killed_in_mid_epoch_goes_on_with_the_batches_it_had_not_seen(
    raw_dataset: Manifest, undisturbed: Noting, tmp_path: Path
) -> None:
    length = raw_dataset.num_records("train") // BATCH
    deadly = length + 5
    code, before = run(raw_dataset, tmp_path / "run", deadly=deadly)
    assert code == -signal.SIGKILL
    assert before == undisturbed.seen[:deadly]
    saved = length + 3  # Every 3 steps, counted anew from the save at the epoch's end.
    assert Resume(tmp_path / "run").options().start_step == saved
    code, after = run(raw_dataset, tmp_path / "run", deadly=-1)
    assert code == 0
    assert after == undisturbed.seen[saved:]
    model = Noting()
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    model(np.zeros((1, 8, 8, 3), np.uint8))
    model.optimizer.build(model.trainable_variables)
    model.load_weights(next((tmp_path / "run").glob("*.weights.h5")))
    # Weights, moments and counts are those of the training that was never killed: dropout drew the same, too.
    for owner in (lambda one: one.dense, lambda one: one.optimizer):
        for found, expected in zip(owner(model).variables, owner(undisturbed).variables, strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6, err_msg=found.path)


def test_a_training_may_go_on_for_more_epochs(raw_dataset: Manifest, undisturbed: Noting, tmp_path: Path) -> None:
    length = raw_dataset.num_records("train") // BATCH
    assert train(raw_dataset, tmp_path, epochs=2).seen == undisturbed.seen[: 2 * length]
    assert train(raw_dataset, tmp_path, epochs=3).seen == undisturbed.seen[2 * length :]
    assert train(raw_dataset, tmp_path, epochs=3).seen == []


def test_steps_per_epoch_need_not_be_the_length_of_the_data(
    raw_dataset: Manifest, undisturbed: Noting, tmp_path: Path
) -> None:
    seen = []
    for epochs in (2, 4):
        resume = Resume(tmp_path)
        dataset = make_dataset(
            raw_dataset, batch_size=BATCH, image_size=(8, 8), labels=None, options=resume.options()
        ).repeat()
        model = Noting()
        model.compile(optimizer="sgd", jit_compile=False)
        model.fit(
            resume.over(dataset.map(lambda batch: (batch["image"], batch["key"]))),
            epochs=epochs,
            steps_per_epoch=5,
            initial_epoch=resume.initial_epoch,
            callbacks=[resume],
            verbose=0,
        )
        seen += model.seen
    assert seen == undisturbed.seen[:20]


def test_a_save_replaces_the_one_before_and_leaves_nothing_else(raw_dataset: Manifest, tmp_path: Path) -> None:
    train(raw_dataset, tmp_path, epochs=1, every=None)
    length = raw_dataset.num_records("train") // BATCH
    assert {path.name for path in tmp_path.iterdir()} == {"position.json", f"step-{length}-epoch-1.weights.h5"}


# ---- misuse


def fitted(resume: Resume, dataset: tf.data.Dataset, **arguments: int) -> None:
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(loss="mse")
    model.fit(dataset, callbacks=[resume], verbose=0, **arguments)


def numbers(count: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((np.zeros((count, 3)), np.zeros(count))).batch(1)


def test_a_forgotten_line_is_named(tmp_path: Path) -> None:
    resume = Resume(tmp_path)
    with pytest.raises(ValueError, match=r"Resume needs make_dataset\(\.\.\., options=resume\.options\(\)\)"):
        fitted(resume, resume.over(numbers(3)))
    resume = Resume(tmp_path)
    resume.options()
    with pytest.raises(ValueError, match=r"Resume needs resume\.over\(train\)"):
        fitted(resume, numbers(3))


def test_another_first_epoch_is_refused(tmp_path: Path) -> None:
    resume = Resume(tmp_path)
    resume.options()
    with pytest.raises(ValueError, match="fit begins epoch 1, but the data is in epoch 0; give fit initial_epoch="):
        fitted(resume, resume.over(numbers(3)), initial_epoch=1, epochs=2)


def test_other_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "position.json").write_text('{"step": 5, "epoch": 1, "data_batches": 3, "weights": "w"}')
    resume = Resume(tmp_path)
    assert (resume.options().start_step, resume.initial_epoch) == (5, 1)
    with pytest.raises(
        ValueError, match=r"has 3 batches to come, but .* was saved at step 5 of epochs of 3: 1 are left"
    ):
        resume.over(numbers(3))


def test_a_position_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "position.json").write_text('{"steps": 5}')
    with pytest.raises(ValueError, match="is not a position of a training; remove its folder"):
        Resume(tmp_path)
    with pytest.raises(ValueError, match="every is 0; it must be at least 1"):
        Resume(tmp_path / "new", every=0)
    assert Resume(tmp_path / "new").initial_epoch == Position().epoch


# ---- input wait


class Sleepy(keras.Model):
    """Takes a known time for a step."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.slept = seconds, []

    def train_step(self, data):
        return {"loss": tf.numpy_function(self.sleep, [data], tf.float32, stateful=True)}

    def sleep(self, _):
        begun = time.perf_counter()
        time.sleep(self.seconds)
        self.slept.append(time.perf_counter() - begun)
        return np.float32(0)


def unprefetched() -> tf.data.Options:
    """Otherwise TensorFlow puts a prefetch behind the last stage."""
    settings = tf.data.Options()
    settings.experimental_optimization.inject_prefetch = False
    return settings


def timed_fit(*, make_seconds: float, step_seconds: float, prefetch: int) -> tuple[InputWait, float, float, float]:
    """Fits over batches and steps that take a known time.

    Returns:
      The callback, and of the second epoch, which traces nothing: seconds of making, of steps, and the logged share.
    """
    made, steps = [], 25

    def make(number):
        begun = time.perf_counter()
        time.sleep(make_seconds)
        made.append(time.perf_counter() - begun)
        return number

    dataset = tf.data.Dataset.range(steps).map(lambda n: tf.ensure_shape(tf.numpy_function(make, [n], tf.int64), []))
    wait = InputWait()
    model = Sleepy(step_seconds)
    model.compile(jit_compile=False)
    timed = wait.over(dataset.prefetch(prefetch) if prefetch else dataset.with_options(unprefetched()))
    logs = model.fit(timed, epochs=2, callbacks=[wait], verbose=0).history
    return wait, sum(made[-steps:]), sum(model.slept[-steps:]), logs["input_wait"][-1]


def spent(wait: InputWait) -> tuple[float, float]:
    """Seconds waited and seconds in all, of the last epoch."""
    return wait._waited_so_far - wait._waited_before, wait._last_end - wait._epoch_begun


def test_a_pipeline_of_30_ms_without_prefetch_is_waited_for_30_ms(capsys: pytest.CaptureFixture[str]) -> None:
    wait, made, _, share = timed_fit(make_seconds=0.03, step_seconds=0.01, prefetch=0)
    waited, whole = spent(wait)
    # Beyond the making itself, a batch changes threads on its way, which takes its time on a busy machine.
    assert 0.95 * made < waited < 1.4 * made
    assert share == pytest.approx(waited / whole)
    assert f"waits {waited / whole:.0%} of the time for input: {1000 * waited / 25:.1f} of" in capsys.readouterr().err


def test_only_the_part_that_prefetch_does_not_hide_is_waited_for() -> None:
    dataset = tf.data.Dataset.range(40).map(lambda n: tf.numpy_function(lambda m: time.sleep(0.03) or m, [n], tf.int64))
    wait = InputWait()
    batches = iter(wait.over(dataset.prefetch(2)))
    in_next = 0.0
    for _ in range(40):
        begun = time.perf_counter()
        next(batches)
        in_next += time.perf_counter() - begun
        time.sleep(0.015)
    # Python's clock around next also times the clock's own operations, more than a millisecond on a busy machine.
    assert 0.7 * in_next < wait._read() < in_next
    assert wait._read() < 0.75 * 40 * 0.03


def test_a_fast_pipeline_is_hardly_waited_for() -> None:
    wait, _, _, _ = timed_fit(make_seconds=0.0, step_seconds=0.02, prefetch=2)
    waited, whole = spent(wait)
    assert waited < 0.1 * whole


def test_the_scalars_can_be_read_without_the_tensorboard_package(tmp_path: Path) -> None:
    wait = InputWait(log_dir=tmp_path, verbose=False)
    model = Sleepy(0)
    model.compile(jit_compile=False)
    model.fit(wait.over(tf.data.Dataset.range(3)), callbacks=[wait], verbose=0)
    (file,) = tmp_path.iterdir()
    events = [
        tf.compat.v1.Event.FromString(record) for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    ]
    found = [(event.step, value.tag) for event in events for value in event.summary.value]
    steps = [(step, f"tfpipe/{name}_seconds") for step in (1, 2, 3) for name in ("input_wait", "step")]
    assert found == [*steps, (0, "tfpipe/input_wait")]
    values = [value for event in events for value in event.summary.value]
    assert {value.metadata.plugin_data.plugin_name for value in values} == {"scalars"}


def test_a_fit_without_the_clock_is_refused() -> None:
    model = Sleepy(0)
    model.compile()
    with pytest.raises(ValueError, match=r"InputWait needs wait\.over\(train\) as the dataset of fit"):
        model.fit(tf.data.Dataset.range(2), callbacks=[InputWait()], verbose=0)


def test_the_clock_keeps_structure_and_length() -> None:
    dataset = tf.data.Dataset.range(6).map(lambda n: {"a": n, "b": (n, tf.strings.as_string(n))}).batch(2)
    timed = InputWait().over(dataset)
    assert int(timed.cardinality()) == 3
    assert timed.element_spec == dataset.element_spec
    assert [batch["b"][1].tolist() for batch in timed.as_numpy_iterator()] == [[b"0", b"1"], [b"2", b"3"], [b"4", b"5"]]


PLACED = """
import os, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
import keras
from tfpipe.callbacks import InputWait, Resume
from tfpipe.reader.dataset import make_dataset
from tfpipe.reader.options import ReadOptions

class Placed(keras.Sequential):
    def train_step(self, data):
        seen.append((data[0].device[-5:], data[1].device[-5:], tf.reduce_sum(data[0]).numpy()))
        return {"loss": 0.0}

folder, repeat, steps = sys.argv[2], sys.argv[3] == "repeat", int(sys.argv[4])
settings = dict(batch_size=4, image_size=(6, 8), repeat=repeat)
wanted = [int(tf.reduce_sum(images)) for images, _ in make_dataset(sys.argv[1], **settings).take(2 * steps)]
seen, length = [], steps if repeat else None
for epochs in (1, 2):
    resume, wait = Resume(folder), InputWait(verbose=False)
    train = make_dataset(sys.argv[1], **settings, options=resume.options(ReadOptions(device="/cpu:1")))
    model = Placed([keras.Input((6, 8, 3)), keras.layers.Conv2D(1, 1)])
    model.compile(run_eagerly=True)
    placed = wait.over(resume.over(train))
    history = model.fit(
        placed, steps_per_epoch=length, epochs=epochs, initial_epoch=resume.initial_epoch, callbacks=[resume, wait],
        verbose=0,
    )
    print("share", 0 < history.history["input_wait"][-1] <= 1, wait.waited_seconds > 0)
print("sums", [one[2] for one in seen][:len(wanted)] == wanted, len(seen))
print("devices", sorted({one[:2] for one in seen}))
"""


@pytest.mark.parametrize("repeat", ["repeat", "once"])
def test_batches_stay_on_their_device_under_the_clock_and_when_resumed(raw_dataset, tmp_path, repeat) -> None:
    """Two logical CPUs in place of a CPU and a GPU: no GPU is used."""
    steps = raw_dataset.num_records("train") // 4
    command = [sys.executable, "-c", PLACED, str(raw_dataset.directory), str(tmp_path / "run"), repeat, str(steps)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[:2] == ["share True True"] * 2
    assert lines[2] == f"sums True {2 * steps}"
    assert lines[3:] == ["devices [('CPU:1', 'CPU:1')]"]


@pytest.mark.parametrize("together", [1, 2])
def test_the_clock_is_read_within_the_graph_of_a_fit(together: int) -> None:
    dataset = tf.data.Dataset.range(6).map(lambda n: tf.numpy_function(lambda m: time.sleep(0.02) or m, [n], tf.int64))
    wait = InputWait(verbose=False)
    model = Sleepy(0)
    model.compile(jit_compile=False, steps_per_execution=together)
    model.fit(wait.over(dataset.with_options(unprefetched())), callbacks=[wait], verbose=0)
    assert 6 * 0.02 < wait.waited_seconds < 3 * 6 * 0.02


def test_a_stage_behind_the_clock_is_warned_of() -> None:
    wait = InputWait(verbose=False)
    model = Sleepy(0)
    model.compile(jit_compile=False)
    with pytest.warns(UserWarning, match=r"InputWait measured nothing: fit put stages behind wait\.over\(train\)"):
        model.fit(wait.over(tf.data.Dataset.range(3)).map(lambda n: n), callbacks=[wait], verbose=0)


if __name__ == "__main__":
    train(load_manifest(sys.argv[1]), Path(sys.argv[2]), deadly=int(sys.argv[3]))
