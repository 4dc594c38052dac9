"""`python -m fcos_edge` is `fcos-edge`."""

import sys

from fcos_edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
