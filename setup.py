"""Refuse to build from a checkout whose links were not made; everything else is in pyproject.toml.

`fcos_edge/train`, `quantize` and `runtimes` are symbolic links to the folders beside `fcos_edge`. GitHub's
ZIP download and git on Windows leave small text files in their place, and a build would go through and
install a package without those three.
"""

from pathlib import Path

from setuptools import setup

LINKS = ("train", "quantize", "runtimes")

missing = [name for name in LINKS if not (Path(__file__).parent / "fcos_edge" / name).is_dir()]
if missing:
    raise SystemExit(
        f"fcos-edge: fcos_edge/{missing[0]} is not a link to ../{missing[0]}: this checkout has no symbolic "
        "links; get one with 'git clone' (on Windows with '-c core.symlinks=true'), or install from PyPI"
    )

setup()
