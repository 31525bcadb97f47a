"""ReadOptions: what is refused, and what the named variants mean."""

import dataclasses
import re

import numpy as np
import pytest

from tfpipe.reader.options import AUTOTUNE, ReadOptions

REFUSED = {
    "unknown cache": ({"cache": "ram"}, r"cache is 'ram'; it takes one of \['none', 'memory', 'disk'\]"),
    "unknown place": ({"cache_place": "images"}, "cache_place is 'images'"),
    "unknown shuffle": ({"shuffle": "yes"}, "shuffle is 'yes'"),
    "no readers": ({"parallel_reads": 0}, "parallel_reads is 0; it must be at least 1"),
    "no calls": ({"parallel_calls": 0}, "parallel_calls is 0"),
    "no buffer": ({"shuffle_buffer": 0}, "shuffle_buffer is 0"),
    "prefetch below automatic": ({"prefetch": -2}, "prefetch is -2"),
    "disk without a folder": ({"cache": "disk"}, "cache='disk' goes with a cache_dir"),
    "a folder without disk": ({"cache_dir": "/x"}, "cache='disk' goes with a cache_dir"),
    "a host beyond the count": (
        {"host_index": 2, "host_count": 2},
        r"host_index is 2; it must be in \[0, host_count=2\)",
    ),
    "no block": ({"block_records": 0}, "block_records is 0; it must be at least 1, or -1 to have it chosen"),
    "no window": ({"window_records": -3}, "window_records is -3"),
    "a negative step": ({"start_step": -1}, "start_step is -1; it must be at least 0"),
    "unknown policy": ({"on_error": "ignore"}, r"on_error is 'ignore'; it takes one of \['raise', 'skip'\]"),
    "balance behind a cache": (
        {"balance_classes": True, "cache": "memory"},
        "balance_classes samples records",
    ),
    "a service of hosts": ({"service": "grpc://x:1", "host_count": 2}, "host_count must be 1"),
    "no memory": ({"ram_budget": 0}, "ram_budget is 0"),
    "no cores": ({"cpu_budget": 0}, "cpu_budget is 0"),
    "hosts with a cache": ({"host_count": 2, "cache": "memory"}, "With host_count > 1"),
    "a text for a number": ({"parallel_calls": "4"}, "parallel_calls is '4'; it must be an integer"),
    "a fraction of a call": ({"parallel_calls": 2.0}, r"parallel_calls is 2\.0; it must be an integer"),
    "a flag for a number": ({"prefetch": True}, "prefetch is True; it must be an integer"),
    "no number": ({"host_count": None}, "host_count is None; it must be an integer"),
    "a text for a budget": ({"ram_budget": "1 GB"}, "ram_budget is '1 GB'; it must be an integer"),
    "a text for a flag": ({"vectorize": "no"}, "vectorize is 'no'; it must be True or False"),
    "a number for a flag": ({"balance_classes": 1}, "balance_classes is 1; it must be True or False"),
    "a number for a choice": ({"shuffle": 1}, "shuffle is 1; it must be a text"),
    "a list for a choice": ({"cache": ["memory"]}, r"cache is \['memory'\]; it must be a text"),
    "a number for an address": ({"service": 5050}, "service is 5050; it must be a text that is not empty or None"),
    "an empty device": ({"device": ""}, "device is ''; it must be a text that is not empty or None"),
    "a place without a cache": ({"cache_place": "batches"}, "cache_place is 'batches', but cache is 'none'"),
    "a cache in a store": ({"cache": "disk", "cache_dir": "gs://box/x"}, "cache_dir is 'gs://box/x'; a disk cache"),
    "hosts with a buffer": ({"host_count": 2, "shuffle": "buffer"}, "With host_count > 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_out_of_range_is_refused_with_its_value(case):
    settings, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        ReadOptions(**settings)


def test_numpy_s_numbers_and_paths_become_python_s_own(tmp_path):
    options = ReadOptions(
        prefetch=np.int64(3), start_step=np.uint8(9), vectorize=np.bool_(False), cache="disk", cache_dir=tmp_path
    )
    assert options == ReadOptions(prefetch=3, start_step=9, vectorize=False, cache="disk", cache_dir=str(tmp_path))
    options.save(tmp_path / "pipeline.json")
    assert ReadOptions.load(tmp_path / "pipeline.json") == options


FILES = {
    "no JSON": ("{", "it is not JSON"),
    "another encoding": (b"\xff\xfe\x00", "it is not JSON"),
    "a list": ("[1]", '{"options": {...}} is expected'),
    "no options": ("{}", '{"options": {...}} is expected'),
    "options of another type": ('{"options": 5}', '{"options": {...}} is expected'),
    "options in a list": ('{"options": ["prefetch"]}', '{"options": {...}} is expected'),
    "an unknown setting": ('{"options": {"prefetches": 1}}', "unknown settings ['prefetches']"),
    "a text": ('{"options": {"parallel_calls": "4"}}', "parallel_calls is '4'; it must be an integer"),
    "a text for a flag": ('{"options": {"vectorize": "no"}}', "vectorize is 'no'; it must be True or False"),
    "a null": ('{"options": {"prefetch": null}}', "prefetch is None; it must be an integer"),
    "out of range": ('{"options": {"prefetch": -5}}', "prefetch is -5; it must be at least 0"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_other_types_is_refused_with_its_name(case, tmp_path):
    content, sentence = FILES[case]
    path = tmp_path / "pipeline.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=re.escape(str(path))) as error:
        ReadOptions.load(path)
    assert sentence in str(error.value)


def test_options_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ReadOptions().prefetch = 3


def test_the_variants_of_the_tables_differ_where_their_names_say():
    plain = ReadOptions.plain()
    assert (plain.parallel_reads, plain.parallel_calls, plain.prefetch) == (1, 1, 0)
    assert dataclasses.replace(plain, parallel_calls=AUTOTUNE) == ReadOptions.parallel_map()
    assert dataclasses.replace(plain, parallel_reads=2) == ReadOptions.interleave()
    assert (
        dataclasses.replace(plain, parallel_reads=2, parallel_calls=AUTOTUNE) == ReadOptions.interleave_parallel_map()
    )
    assert ReadOptions.book().shuffle == "buffer"
