"""A command line of tfpipe in this process."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tfpipe import cli

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tfpipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process: exit code, stdout, stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tfpipe", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        code = caught.value.code
        assert code is None or isinstance(code, int), code
        return code or 0, out, err

    return run
