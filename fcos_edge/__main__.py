"""`python -m fcos_edge` is `fcos-edge`."""

import sys
from pathlib import Path

from fcos_edge.cli import main

if __name__ == "__main__":
    if Path(__file__).with_name("runtimes").is_file():  # a ZIP's text in place of the link
        sys.exit("fcos-edge: this folder has lost its symbolic links; run 'pip install -e .' in it once")
    sys.exit(main())
