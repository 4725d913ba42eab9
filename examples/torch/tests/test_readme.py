"""The programs in the documents run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent
DOCUMENTS = [FOLDER / "README.md", *sorted((FOLDER / "docs").glob("*.md"))]
PROGRAMS = [
    pytest.param(program, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, program in enumerate(re.findall(r"^```python\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "README", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out or "print" not in program
