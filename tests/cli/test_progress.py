"""The one progress bar: on a terminal it shows steps or bytes, elsewhere nothing."""

import io
import sys

import pytest

from beam_jobs.engines.progress import WatchedProgress
from tfpipe.cli.progress import progress


class Terminal(io.StringIO):
    """Keeps what a terminal would show."""

    def isatty(self):
        return True


def shown(run, stderr, monkeypatch):
    """What appears on this stderr while a function runs."""
    with monkeypatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "120")
        patch.setattr(sys, "stderr", stderr)
        run()
    return stderr.getvalue()


def test_a_terminal_shows_the_bar_and_its_last_description(monkeypatch):
    def run():
        with progress("checking", total=4) as update:
            update(advance=3, description="checking train")

    text = shown(run, Terminal(), monkeypatch)
    assert "checking train" in text
    assert "75%" in text


def test_bytes_are_shown_as_sizes(monkeypatch):
    def run():
        with progress("writing", total=3_000_000, completed=1_000_000, in_bytes=True) as update:
            update(completed=2_000_000)

    assert "2.0/3.0 MB" in shown(run, Terminal(), monkeypatch)


@pytest.mark.parametrize(("stderr", "quiet"), [(io.StringIO(), False), (Terminal(), True)], ids=["log", "quiet"])
def test_nothing_is_shown_in_a_log_or_where_it_is_not_wanted(monkeypatch, stderr, quiet):
    def run():
        with progress("checking", total=4, quiet=quiet) as update:
            update(advance=4)

    assert shown(run, stderr, monkeypatch) == ""


def test_the_bar_of_a_conversion_ends_with_all_images(monkeypatch, tmp_path):
    (tmp_path / "a.tfrecord").write_bytes(bytes(500_000))

    def run():
        with WatchedProgress(tmp_path, 1_000_000, 1234):
            pass

    text = shown(run, Terminal(), monkeypatch)
    assert "writing 1,234 images" in text
    assert "1.0/1.0 MB" in text
