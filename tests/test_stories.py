"""The projects of pages: their files are written where commands run, and console blocks show what these print."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from docs.generate import ROOT
from docs.stories import commands_in, file_in, told

PAGE = """\
```console
$ an example
```

<!-- new project -->
```sql
-- models/a.sql: a model
select 1
```

```yaml
not a file
```

```console
$ cat models/a.sql
something from before
```

```csv
# seeds/b.csv
id
```
<!-- run: echo 2 >> seeds/b.csv -->
<!-- run: echo 3 >> seeds/b.csv -->

```console
$ cat seeds/b.csv
$ ls
```

<!-- new project -->
```console
$ ls
```

<!-- demo shop -->
```console
$ ls
```
"""


def console(commands: Sequence[str], folder: Path) -> str:
    lines = []
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, check=True)
        lines += [f"$ {command}", *done.stdout.splitlines()]
    return "\n".join(["```console", *lines, "```"])


def test_files_are_written_and_commands_are_run_where_they_are():
    page = told(PAGE, console, ROOT)
    assert [block.split("```")[0] for block in page.split("```console\n")[1:]] == [
        "$ an example\n",
        "$ cat models/a.sql\nselect 1\n",
        "$ cat seeds/b.csv\nid\n2\n3\n$ ls\nmodels\nseeds\n",
        "$ ls\n",
        "$ ls\nmodels\nseeds\nsyncs.yml\n",
    ]


def test_all_else_of_a_page_stays():
    once = told(PAGE, console, ROOT)
    assert told(once, console, ROOT) == once
    assert "not a file" in once
    assert "something from before" not in once


@pytest.mark.parametrize(
    ("block", "file"),
    [
        ("# syncs.yml\nversion: 1\n", ("syncs.yml", "version: 1\n")),
        ("-- models/a.sql: what it is\nselect 1\n", ("models/a.sql", "select 1\n")),
        ("# a comment\nversion: 1\n", None),
        ("select 1\n", None),
    ],
)
def test_block_is_a_file_if_its_first_line_names_one(block: str, file: tuple[str, str] | None):
    assert file_in(block) == file


def test_commands_begin_with_a_dollar():
    assert commands_in("$ retl seed\nb: 1 row\n$ retl sync --all\n") == ["retl seed", "retl sync --all"]
