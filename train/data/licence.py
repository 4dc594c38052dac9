"""What a data set's record says of a picture's licence, and whether that allows commercial use.

A licence is known by its URL or its name, never by the number that a data set gives it: others number in
their own way. What is not known here is a no: nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

# What pictures are to be used for.
Use = Literal["commercial"]
USES: tuple[Use, ...] = ("commercial",)

Verdict = Literal["allowed", "forbidden", "unknown", "no record"]


@dataclass(frozen=True)
class Licence:
    """One licence as it is written; empty where there is no record.

    undefined_id  what a picture names as its licence and its data set does not define
    """

    name: str = ""
    url: str = ""
    undefined_id: str = ""

    def __str__(self) -> str:
        if self.undefined_id:
            return f"licence {self.undefined_id}, which the data set does not define"
        # Someone else's text, on one line.
        return " ".join(f"{self.name} {self.url}".split())[:200] or "no record"


NO_RECORD = Licence()

# The whole host and path, lower case, without `www.` and the last slash.
_ALLOWED_URLS = (
    r"creativecommons\.org/licenses/(by|by-sa|by-nd|publicdomain)(/.*)?",
    r"creativecommons\.org/publicdomain/(zero|mark)(/.*)?",
    r"flickr\.com/commons/usage",
    r"usa\.gov/(copyright\.shtml|government-works|government-copyright)",
    r"opensource\.org/licenses?/(mit|apache-2[.-]0|bsd-[23]-clause)(-license)?(\.php|\.html)?",
    r"apache\.org/licenses/license-2\.0(\.txt|\.html)?",
    r"spdx\.org/licenses/(mit|apache-2\.0|bsd-[23]-clause|cc0-1\.0|cc-by(-sa|-nd)?-\d\.\d)(\.html)?",
)
# The whole name, lower case; what is neither letter, digit nor point is one space.
_ALLOWED_NAMES = (
    r"(cc|creative commons) (by|attribution)( (sa|nd|share ?alike|no ?deriv(ative)?s))?( \d\.\d)?"
    r"( (international|unported|generic))?( licen[cs]e)?",
    r"attribution( (share ?alike|no ?derivs))? licen[cs]e",  # Flickr's names, which COCO has too
    r"(cc ?0|creative commons zero)( v?\d\.\d)?( universal)?( public domain( dedication)?)?( licen[cs]e)?",
    r"public domain( dedication| mark)?( cc ?0)?( \d\.\d)?",
    r"no known copyright restrictions",
    r"(united states|u\.?s\.?) government work",
    r"(the )?mit( licen[cs]e)?",
    r"apache( licen[cs]e)?( version)? v?2(\.0)?( licen[cs]e)?",
    r"bsd( [23] clause)?( licen[cs]e)?",
)
# Anywhere in a name or URL: then it is a no, whatever else is said.
_FORBIDDING = (
    r"(?<![a-z])nc(?![a-z])|non.?commercial|(no|not for) commercial|all rights reserved"
    r"|(research|education(al)?|academic|personal)( use| purposes?)? only"
)


def judge(licence: Licence) -> Verdict:
    """Whether a picture under this licence may be used commercially, as far as its record goes."""
    name = re.sub(r"[^a-z0-9.]+", " ", licence.name.lower()).strip(" .")
    url = licence.url.lower().strip()
    if licence.undefined_id:
        return "unknown"
    if not name and not url:
        return "no record"
    if re.search(_FORBIDDING, name) or re.search(_FORBIDDING, url):
        return "forbidden"
    place = _host_and_path(url)
    is_known = any(re.fullmatch(pattern, place) for pattern in _ALLOWED_URLS) or any(
        re.fullmatch(pattern, name) for pattern in _ALLOWED_NAMES
    )
    return "allowed" if is_known else "unknown"


def _host_and_path(url: str) -> str:
    try:
        parts = urlsplit(url if "//" in url else f"//{url}")
        return f"{parts.hostname or ''}{parts.path}".removeprefix("www.").rstrip("/")
    except ValueError:  # as http://[
        return ""
