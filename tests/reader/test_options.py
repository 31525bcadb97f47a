"""ReadOptions: what is refused, and what the named variants mean."""

import dataclasses

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
    "hosts with a buffer": ({"host_count": 2, "shuffle": "buffer"}, "With host_count > 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_setting_out_of_range_is_refused_with_its_value(case):
    settings, sentence = REFUSED[case]
    with pytest.raises(ValueError, match=sentence):
        ReadOptions(**settings)


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
