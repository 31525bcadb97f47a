"""How the documentation's blocks are found, run and left out."""

from pathlib import Path

import pytest
from pages import blocks, given, indented_code, run_page

PAGE = """<!-- given: photos, masks -->
```python
x = 1
```

<!-- not run: takes two machines -->
```bash
exit 7
```

- in a list

  ```bash
  echo one > out.txt
  exit 8     # not run: would end the run
  ```

```python
# not run: takes a GPU that nobody has
x = 2
```

```csv title="data/rows.csv"
a,b
```

```python
assert x == 1 and open("data/rows.csv").read() == "a,b\\n" and open("out.txt").read() == "one\\n"
```
"""


def test_a_page_is_its_blocks_with_their_reasons() -> None:
    found = blocks(PAGE)
    assert [block.language for block in found] == ["python", "bash", "bash", "python", "csv", "python"]
    assert [bool(block.reason) for block in found] == [False, True, False, True, False, False]
    assert found[2].code.startswith("echo one")
    assert PAGE.splitlines()[found[5].line - 1].startswith("assert x == 1")
    assert (given(PAGE), given("nothing")) == (["photos", "masks"], [])


def test_blocks_run_in_their_order_in_one_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    run_page(tmp_path / "page.md")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```bash\ntrue\nfalse\ntrue\n```\n", SystemExit),
        ("```bash\nno_such_command | cat\n```\n", SystemExit),
        ("```python\n1 / 0\n```\n", ZeroDivisionError),
    ],
)
def test_a_block_that_fails_ends_the_run(
    text: str, error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(error):
        run_page(tmp_path / "page.md")


def test_code_that_is_only_indented_is_found() -> None:
    assert indented_code("text\n\n    tfpipe check x\n\n```bash\n    fine\n```\n") == ["    tfpipe check x"]
    assert indented_code("- a list\n    that goes on\n") == []
