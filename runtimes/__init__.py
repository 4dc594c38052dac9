"""One file per runtime; `fcos_edge.runtime.RuntimeFile` says what a file holds.

A runtime changes layout and dtype, nothing else. Dropping a file in here adds it: `runtime_names` lists
the folder. These files import their package inside `load`, so that looking for a runtime costs nothing.
"""
