"""Read a JSON document that a verb wrote earlier with --json, and tell by its schema which kind it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fcos_edge.errors import SpecError, UsageError
from fcos_edge.spec import check_version

# Kind -> the newest version that is read here. A newer minor version only adds keys.
KINDS = {"parity": (1, 1), "bench": (1, 0), "eval": (1, 1), "analyze": (1, 0)}
_PREFIX = "fcos-edge."


def read_document(path: Path) -> tuple[str, Mapping[str, Any]]:
    """(kind, document). Raises UsageError for what none of the verbs wrote."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: no JSON; give what a verb wrote with --json") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    kind, _, version = str(schema).removeprefix(_PREFIX).partition("/")
    if not isinstance(schema, str) or not schema.startswith(_PREFIX) or kind not in KINDS:
        known = ", ".join(sorted(KINDS))
        raise UsageError(f"{path}: its schema is {schema!r}; give what one of {known} wrote with --json")
    try:
        check_version(kind, version if "." in version else f"{version}.0", KINDS[kind])
    except SpecError as error:
        raise UsageError(f"{path}: {error}") from None
    return kind, document


def check_same_bundle(bench: Mapping[str, Any] | None, bytes_of: Mapping[str, int]) -> None:
    """Raise UsageError where a bench is of another bundle than a report.

    bytes_of: file -> size of the report's artifacts
    """
    if bench is None:
        return
    cases = [case for case in bench["cases"] if case["file"] in bytes_of]
    for case in cases:
        if case["size_bytes"] != bytes_of[case["file"]]:
            raise UsageError(
                f"the bench is of another bundle: {case['file']} has {case['size_bytes']:,} bytes there, and"
                f" {bytes_of[case['file']]:,} in the parity report; give a bench of the same bundle"
            )
    if not cases:
        raise UsageError("the bench has none of the parity report's files; give a bench of the same bundle")
