"""The programs in the documents run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent
DOCUMENTS = [FOLDER / "README.md", *sorted((FOLDER / "docs").glob("*.md"))]
PROGRAMS = [
    pytest.param(program, id=f"{document.name}-{number}")
    for document in DOCUMENTS
    for number, program in enumerate(re.findall(r"^```python\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE))
]


def run_in_processes(program):
    """Runs a program as its first line says, by the module that `torchrun` is."""
    command, *arguments = program.splitlines()[0].removeprefix("# ").split()
    assert command == "torchrun"
    Path(arguments[-1]).write_text(program)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", *arguments]
    ended = subprocess.run(run, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stderr
    assert "2 processes decide together" in ended.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_runs(program, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if program.startswith("# torchrun"):
        run_in_processes(program)
        return
    exec(compile(program, "README", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out or "print" not in program
