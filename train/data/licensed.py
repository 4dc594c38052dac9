"""The pictures of a split whose licence record allows a use, and what became of all others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fcos_edge.errors import DataError, UsageError
from fcos_edge.train.data.labels import Labels
from fcos_edge.train.data.licence import USES, Licence, Use, Verdict, judge

_REASONS: dict[Verdict, str] = {
    "forbidden": "not for commercial use",
    "unknown": "not known to allow it",
    "no record": "without a record",
}


@dataclass(frozen=True)
class LicenceCount:
    """How many pictures of a split have one licence, and what follows."""

    licence: Licence
    verdict: Verdict
    pictures: int

    @property
    def is_kept(self) -> bool:
        return self.verdict == "allowed"

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.licence.name, "url": self.licence.url, "undefined_id": self.licence.undefined_id,
            "verdict": self.verdict, "pictures": self.pictures,
        }  # fmt: skip


def keep_licensed(labels: Labels, use: Use) -> tuple[Labels, tuple[LicenceCount, ...]]:
    """The labels of the pictures that may be used so, perhaps of none, and the count of every licence.

    Counts come with what is kept first, the most pictures first. The document stays that of all pictures.
    Raises UsageError for a use that there is not.
    """
    if use not in USES:
        raise UsageError(f"licence {use!r} is not known; choose from {', '.join(USES)}")
    found = Counter(picture.licence for picture in labels.pictures)
    counts = [LicenceCount(licence, judge(licence), number) for licence, number in found.items()]
    kept = {count.licence for count in counts if count.is_kept}
    pictures = tuple(picture for picture in labels.pictures if picture.licence in kept)
    counts.sort(key=lambda count: (not count.is_kept, -count.pictures))
    return replace(labels, pictures=pictures), tuple(counts)


def require_some(sources: Sequence[Path], counts: Sequence[LicenceCount]) -> None:
    """Raise DataError where pictures were chosen by their licence, and none is left of all sources."""
    if not counts or any(count.is_kept for count in counts):
        return
    pictures = sum(count.pictures for count in counts)
    reasons = [
        f"{number} {reason}"
        for verdict, reason in _REASONS.items()
        if (number := sum(count.pictures for count in counts if count.verdict == verdict))
    ]
    raise DataError(
        f"{', '.join(map(str, sources))}: none of {pictures} pictures has a licence record that allows"
        f" commercial use ({', '.join(reasons)}); give data with such records, or leave out --licence"
    )


def licence_lines(counts: Sequence[LicenceCount]) -> list[str]:
    """For people: how many pictures of one split are kept, and what every licence is taken for."""
    if not counts:
        return []
    kept = sum(count.pictures for count in counts if count.is_kept)
    pictures = sum(count.pictures for count in counts)
    nothing = "" if kept else "; nothing of this set is used"
    lines = [f"  {kept} of {pictures} pictures have a licence record that allows commercial use{nothing}"]
    for count in counts:
        if count.is_kept:
            lines.append(f"    kept {count.pictures}: {count.licence}")
        elif count.verdict == "no record":
            lines.append(f"    left out {count.pictures}: {_REASONS['no record']}")
        else:
            lines.append(f"    left out {count.pictures}, {_REASONS[count.verdict]}: {count.licence}")
    return lines
