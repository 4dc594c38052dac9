"""One file per verb of the command line; `fcos_edge/cli.py` says what it holds.

Its imports at the top are light: all verbs are imported for `fcos-edge --help`.
"""
