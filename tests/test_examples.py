"""Every script in `examples/`, run as its docstring says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcos_edge.runtime import runtime_names

# count_line.py has a test of its own.
EXAMPLES = sorted(Path(__file__).parent.parent.joinpath("examples").glob("detect_*.py"))


def test_examples__one_for_each_runtime() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in EXAMPLES)
    wanted = [name for name in runtime_names() if name != "replay"]  # plays recordings, of tests
    assert [name for name in wanted if f'runtime="{name}"' not in text] == []


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example__finds_the_astronaut(
    script: Path, embedded_bundle: Path, repo_root: Path, tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, str(script), str(embedded_bundle), str(embedded_bundle / "golden/astronaut.png")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repo_root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["person"]
    assert list(tmp_path.iterdir()) == []
