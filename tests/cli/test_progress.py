"""The one progress bar: on a terminal it shows steps or bytes, elsewhere nothing."""

import io
import re
import sys
import time

import pytest

from beam_jobs.engines.progress import WatchedProgress
from tfpipe.cli.progress import progress, status, step_bar


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


def test_steps_are_counted_with_their_rate(monkeypatch):
    def run():
        with progress("drawing", total=300) as update:
            for _ in range(3):
                time.sleep(0.02)
                update(advance=50)

    text = shown(run, Terminal(), monkeypatch)
    assert "150/300" in text
    assert re.search(r"\d/s", text)


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


def test_the_bar_of_a_conversion_counts_what_was_refused(monkeypatch, tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    for number in range(2):
        (tmp_path / f"train-0000{number}.json").write_text('{"refused": [["a", "a", "empty", "No bytes."]]}')

    def run():
        with WatchedProgress(tmp_path, 1000, 1234):
            pass

    assert "writing 1,234 images, 2 refused" in shown(run, Terminal(), monkeypatch)


@pytest.mark.parametrize(
    ("stderr", "quiet", "says"),
    [(Terminal(), False, True), (io.StringIO(), False, False), (Terminal(), True, False)],
    ids=["terminal", "log", "quiet"],
)
def test_what_has_no_steps_is_said_on_a_terminal(monkeypatch, stderr, quiet, says):
    def run():
        with status("starting TensorFlow", quiet=quiet):
            pass

    assert ("starting TensorFlow" in shown(run, stderr, monkeypatch)) == says


def test_a_bar_of_steps_is_told_how_many_there_are(monkeypatch):
    def run():
        with step_bar("reading") as tell:
            tell(3, 12)

    assert "3/12" in shown(run, Terminal(), monkeypatch)
