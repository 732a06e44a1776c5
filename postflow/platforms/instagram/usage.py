"""How much of its budget an account has used: Meta tells it in the headers of each answer.

X-App-Usage                {"call_count": 28, "total_cputime": 25, "total_time": 25}            percent
X-Business-Use-Case-Usage  {"<id>": [{"type": …, "call_count": …, "estimated_time_to_regain_access": minutes}]}
https://developers.facebook.com/docs/graph-api/overview/rate-limiting
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

#: From here on we ask less often.
HIGH_PERCENT = 80
_LONGEST_S = 24 * 3600.0
_COUNTS = ("call_count", "total_cputime", "total_time")


def percent(headers: Mapping[str, str]) -> float:
    """The fullest of all budgets, 0 when none is told."""
    return max((_number(one.get(name)) for one in _budgets(headers) for name in _COUNTS), default=0)


def regain_s(headers: Mapping[str, str]) -> float:
    """How long calls will be refused; 0 while they are not."""
    minutes = max((_number(one.get("estimated_time_to_regain_access")) for one in _budgets(headers)), default=0)
    return min(minutes * 60, _LONGEST_S)


def _budgets(headers: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    app = _parsed(headers.get("x-app-usage"))
    if isinstance(app, Mapping):
        yield app
    cases = _parsed(headers.get("x-business-use-case-usage"))
    for entries in cases.values() if isinstance(cases, Mapping) else ():
        yield from (one for one in entries if isinstance(one, Mapping)) if isinstance(entries, list) else ()


def _parsed(value: str | None) -> Any:
    try:
        return json.loads(value) if value else None
    except (ValueError, RecursionError):
        return None


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0
