"""Processes that hold an object: what they are told of the machine, and that calls go to whichever is free."""

import os
from pathlib import Path

import pytest

from tfpipe.errors import UsageError
from tfpipe.search.helpers import Processes, shared_machine


@pytest.mark.parametrize(("cores", "processes", "threads"), [(8, 2, "4"), (8, 3, "2"), (2, 4, "1"), (None, 2, "1")])
def test_processes_share_the_cores_of_a_machine(cores, processes, threads, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert shared_machine(processes)["TF_NUM_INTRAOP_THREADS"] == threads
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "7")
    assert shared_machine(processes)["TF_NUM_INTRAOP_THREADS"] == "7"


def test_each_call_is_made_once_and_a_failure_ends_the_search(tmp_path):
    for number in range(5):
        (tmp_path / str(number)).write_text(f"{number}")
    processes = Processes(tmp_path, 2)
    try:
        found = [path.name for path in processes.call("joinpath", [(str(number),) for number in range(5)])]
        assert sorted(found) == list("01234")
        assert next(processes.call("__class__", [("x",)])) == Path("x")
        with pytest.raises(RuntimeError, match="A worker process of the search failed: FileExistsError"):
            list(processes.call("mkdir", [()]))
    finally:
        processes.close()
    assert all(one.poll() is not None for one in processes._started)


def test_functions_that_no_other_process_finds_are_refused():
    from tfpipe.search.helpers import check_importable

    check_importable("workers=2", {"child": "small", "sampler": shared_machine})
    with pytest.raises(UsageError, match="With workers=2, child has to be a function of a module"):
        check_importable("workers=2", {"child": lambda shape, count: None})
