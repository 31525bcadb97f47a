"""The table in ReadOptions' docstring: the pairs of settings that it names are refused, and no others."""

import dataclasses
from itertools import combinations

import pytest
from foreign import tfds, write_all

import tfpipe
from tfpipe.format.schema import Schema
from tfpipe.reader import dataset
from tfpipe.reader.crops import RandomResizedCrop
from tfpipe.reader.options import ReadOptions

# What each entry of the table means: options, or a property of the data or of another argument of make_dataset.
SETTINGS = {
    "cache_dir": {"cache_dir": "/nowhere"},
    "cache_place": {"cache_place": "batches"},
    "shuffle_buffer": {"shuffle_buffer": 7},
    "host_count": {"host_count": 2},
    "balance_classes": {"balance_classes": True},
    "service": {"service": "grpc://nowhere:1"},
    "start_step": {"start_step": 3},
    'cache="none"': {"cache": "none"},
    'cache="memory"': {"cache": "memory"},
    'cache="disk"': {"cache": "disk", "cache_dir": "/nowhere"},
    'shuffle="global"': {"shuffle": "global"},
    'shuffle="buffer"': {"shuffle": "buffer"},
    'shuffle="none"': {"shuffle": "none"},
    "a mixture": {},
    "a random crop": {},
    "compressed shards": {},
    "partial batch": {},
    "several labels": {},
}
NAMES = {
    "a random crop": "RandomResizedCrop",
    "several labels": "none or several",
    "a mixture": "The weights of a mixture",
}
# Each of them alone is refused: what goes with it is part of its meaning.
NEVER_ALONE = ("cache_dir", "cache_place", "shuffle_buffer")


def table():
    """(setting, other) of each entry."""
    pairs, setting = [], ""
    for line in map(str.strip, ReadOptions.__doc__.splitlines()):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] != "setting" and not cells[0].startswith("-"):
            setting = cells[0] or setting
            pairs += [(setting, other.strip()) for other in cells[1].split(";") if other.strip()]
    return pairs


@pytest.fixture(scope="module")
def compressed(tmp_path_factory):
    return tfpipe.index(write_all(tmp_path_factory.mktemp("gzip"), tfds, "GZIP"))


@pytest.fixture
def refusal(raw_dataset, compressed, monkeypatch):
    """The sentence with which make_dataset refuses a pair; None where it takes it. Nothing is built or read."""
    monkeypatch.setattr(dataset, "_dataset", lambda request: request)

    def ask(pair):
        manifest = compressed if "compressed shards" in pair else raw_dataset
        if "several labels" in pair:
            features = [
                f if f.name != "label_int" else dataclasses.replace(f, shape=(None,)) for f in manifest.schema.features
            ]
            manifest = dataclasses.replace(manifest, schema=Schema(manifest.schema.payload, tuple(features)))
        records = manifest.num_records("train")
        arguments = {"batch_size": 4, "image_size": (4, 4)}
        if "a random crop" in pair:
            arguments["resize"] = RandomResizedCrop()
        if "partial batch" in pair:
            arguments |= {"training": False, "batch_size": next(size for size in (4, 5, 7) if records % size)}
        try:
            options = ReadOptions(**{name: value for entry in pair for name, value in SETTINGS[entry].items()})
            source = (
                {manifest: 1, dataclasses.replace(manifest, rejected={"other": 1}): 3}
                if "a mixture" in pair
                else manifest
            )
            dataset.make_dataset(source, **arguments, options=options)
        except ValueError as error:
            return str(error)
        return None

    return ask


def test_the_table_has_the_settings_that_exclude_others():
    assert len(table()) > 20
    assert {setting for setting, _ in table()} == {
        "cache_dir",
        *NEVER_ALONE,
        "host_count",
        "balance_classes",
        "a mixture",
        "service",
        "a random crop",
    }


@pytest.mark.parametrize("pair", table(), ids=" with ".join)
def test_each_pair_of_the_table_is_refused_with_its_names(pair, refusal):
    sentence = refusal(pair)
    assert sentence is not None
    for entry in pair:
        assert NAMES.get(entry, entry).partition("=")[0] in sentence


def test_pairs_that_are_not_in_the_table_are_taken(refusal):
    refused = {frozenset(pair) for pair in table()}
    entries = [entry for entry in SETTINGS if entry not in NEVER_ALONE]
    for pair in combinations(entries, 2):
        same_setting = pair[0].partition("=")[0] == pair[1].partition("=")[0]
        if not same_setting and frozenset(pair) not in refused:
            assert refusal(pair) is None, pair
