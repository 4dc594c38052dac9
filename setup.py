"""Mend what a ZIP and an earlier build leave behind; everything else is in pyproject.toml.

`fcos_edge/train`, `quantize` and `runtimes` are symbolic links to the folders beside `fcos_edge`. A ZIP of
the repository and git on Windows may leave small files in their place, with the link's target as text. A
build would go through and install a package without those three, so the links are made again.
"""

import os
import shutil
from pathlib import Path

from setuptools import setup

CHECKOUT = Path(__file__).parent

for name in ("train", "quantize", "runtimes"):
    link, target = CHECKOUT / "fcos_edge" / name, f"../{name}"
    if link.is_dir():  # the link, or in an sdist the folder itself
        continue
    try:
        if not (CHECKOUT / name).is_dir() or link.read_text().strip() != target:
            raise OSError(f"there is no folder {name}, or the file's text is another")
        made = link.with_suffix(".link")
        made.symlink_to(target, target_is_directory=True)
        os.replace(made, link)
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"fcos-edge: fcos_edge/{name} is not a link to {target}, and cannot be made one ({error}); get "
            "the repository with 'git clone' (on Windows with '-c core.symlinks=true'), on a disk with links"
        ) from None

# setuptools packs whatever lies there, also a module that has been renamed since.
shutil.rmtree(CHECKOUT / "build" / "lib", ignore_errors=True)

setup()
