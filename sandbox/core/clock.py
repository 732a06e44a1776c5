"""The sandbox's own clock: wall time plus an offset, so that tokens, containers and keys can be aged at
will.
"""

import datetime
import time


class Clock:
    """Reads wall time; `advance` moves it forward (or back) without anybody sleeping."""

    def __init__(self, offset_s: float = 0.0) -> None:
        self.offset_s = offset_s

    def now(self) -> float:
        """Seconds since the epoch, as this little world sees them."""
        return time.time() + self.offset_s

    def advance(self, seconds: float) -> float:
        """Age everything by `seconds`; returns the new now."""
        self.offset_s += seconds
        return self.now()


def iso_ms(epoch_s: float) -> str:
    """`2026-11-23T08:30:20.549Z`, the way Mastodon and its kin write instants."""
    moment = datetime.datetime.fromtimestamp(epoch_s, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def iso_us(epoch_s: float) -> str:
    """`2026-11-23T09:00:00.676611Z`, as in Mastodon's X-RateLimit-Reset."""
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def iso_graph(epoch_s: float) -> str:
    """`2026-11-23T10:00:00+0000`, without a colon in the offset, as the Graph API writes it."""
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S+0000")


def iso_day(epoch_s: float) -> str:
    """`2026-11-23`."""
    return datetime.datetime.fromtimestamp(epoch_s, datetime.UTC).strftime("%Y-%m-%d")


def from_iso(text: str) -> float | None:
    """Epoch seconds of an ISO 8601 instant; None when it cannot be read."""
    try:
        moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
