"""What the rows of `tfpipe bench --fit` say: shares, waits, the bottleneck, and the option to change."""

import json

import pytest

from tfpipe.timing import Pass, summarize
from tfpipe.timing.gpu import Sample
from tfpipe.timing.training import (
    AUGMENTATION,
    CACHED,
    CEILING,
    DEVICE,
    HOST,
    LAYER,
    MODEL,
    PLAIN,
    READING,
    PassNote,
    diagnose,
    fit_rows,
)


def rows_of(rates, *, waited=0.5, samples=()):
    """Rows of fixed rates without spread: 10 steps of 10 images a pass."""
    rows = summarize({name: [Pass(100, 100 / rate, 1)] * 3 for name, rate in rates.items()})
    return fit_rows(rows, {name: [PassNote(10, waited, samples)] * 2 for name in rates})


RATES = {CEILING: 1000, PLAIN: 800, HOST: 400, DEVICE: 700, LAYER: 600, CACHED: 500}


def test_a_row_has_the_share_of_the_ceiling_the_step_and_its_wait():
    found = {row.variant: row for row in rows_of(RATES)}
    assert [row.share_of_ceiling for row in found.values()] == [1, 0.8, 0.4, 0.7, 0.6, 0.5]
    assert found[HOST].step_seconds == pytest.approx(10 / 400)
    assert (found[HOST].input_wait_seconds, found[HOST].input_wait_from) == (0.05, "clock")
    assert found[HOST].wait_text == "50.0"
    assert found[DEVICE].row.speedup == pytest.approx(700 / 400)


def test_without_a_clock_the_wait_is_what_a_step_takes_longer_than_the_ceiling_s():
    found = {row.variant: row for row in rows_of(RATES, waited=None)}
    assert found[DEVICE].input_wait_from == "ceiling"
    assert found[DEVICE].input_wait_seconds == pytest.approx(10 / 700 - 10 / 1000)
    assert found[DEVICE].wait_text == "~4.3"
    assert found[CEILING].input_wait_seconds == 0


def test_a_document_is_flat_and_has_the_gpu_s_time():
    samples = [Sample(0, 5), Sample(1, 95), Sample(4, 0)]
    document = json.loads(json.dumps(rows_of(RATES, samples=samples)[2].as_document()))
    assert (document["variant"], document["share_of_ceiling"], document["input_wait_from"]) == (HOST, 0.4, "clock")
    assert document["gpu"] == pytest.approx(
        {"below_10": 0.25, "below_50": 0.25, "below_90": 0.25, "mean": 0.725, "seconds": 8}
    )
    assert rows_of(RATES)[0].as_document()["gpu"] is None


@pytest.mark.parametrize(
    ("changes", "bottleneck", "variant"),
    [
        ({}, AUGMENTATION, DEVICE),
        ({LAYER: 900}, AUGMENTATION, LAYER),
        ({PLAIN: 420, CACHED: 900}, READING, CACHED),
        ({PLAIN: 420, DEVICE: 410, LAYER: 405, CACHED: 400}, READING, None),
        ({DEVICE: 410, LAYER: 405, CACHED: 400}, AUGMENTATION, None),
        ({HOST: 960}, MODEL, None),
        ({PLAIN: 2000, HOST: 960, DEVICE: 1500}, MODEL, None),
    ],
)
def test_the_bottleneck_and_the_option_follow_from_the_rates(changes, bottleneck, variant):
    found = diagnose(rows_of(RATES | changes), on_gpu=True)
    assert (found.bottleneck, found.variant) == (bottleneck, variant)
    assert (found.option is None) == (variant is None)


def test_the_advice_names_the_option_and_its_gain():
    found = diagnose(rows_of(RATES), on_gpu=True)
    assert found.gain == pytest.approx(1.75)
    assert found.advice == (
        "Change options=ReadOptions(device='/GPU:0'): make_dataset augments on the GPU. "
        "It has 1.75 times the images per second of augment_host, 70% of the ceiling."
    )
    model = diagnose(rows_of(RATES | {HOST: 990}), on_gpu=True)
    assert model.advice.startswith("augment_host is within noise of the ceiling: no option of the input gains anything")
    nothing = diagnose(rows_of({CEILING: 1000, PLAIN: 420, HOST: 400}), on_gpu=True)
    assert nothing.advice.startswith("No row gains more than noise; tfpipe tune finds the slowest stage")


def test_without_a_gpu_its_row_is_no_choice():
    found = diagnose(rows_of(RATES), on_gpu=False)
    assert (found.variant, found.gain) == (LAYER, 1.5)


def test_records_that_are_not_augmented_are_judged_by_reading():
    found = diagnose(rows_of({CEILING: 1000, PLAIN: 400, CACHED: 900}), on_gpu=True)
    assert (found.bottleneck, found.variant, found.gain) == (READING, CACHED, 2.25)
