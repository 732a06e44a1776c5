"""How values read on a page: template filters, no more."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from flask import Flask, current_app
from werkzeug.exceptions import HTTPException

from postflow import errors, platforms
from web import walltime

_STATES = {
    "draft": "Draft",
    "scheduled": "Scheduled",
    "preparing": "Preparing",
    "ready": "Ready",
    "sending": "Sending",
    "unknown": "Checking",
    "published": "Published",
    "failed": "Failed",
    "attention": "Needs you",
    "missed": "Missed",
    "cancelled": "Cancelled",
    "active": "Connected",
    "needs_reconnect": "Reconnect",
    "disconnected": "Disconnected",
}


def register(app: Flask) -> None:
    app.add_template_filter(state_word)
    app.add_template_filter(in_zone)
    app.add_template_filter(in_utc)
    app.add_template_filter(in_seconds)
    app.add_template_filter(late)
    app.add_template_filter(lasting)
    app.add_template_filter(network)
    app.add_template_filter(is_a_page)
    app.add_template_global(walltime_step)


def state_word(status: str) -> str:
    return _STATES.get(str(status), str(status))


def in_zone(instant: datetime, zone: str) -> str:
    """Tue 24 Nov 2026, 09:05, as the clock on that wall showed or will show it; an hour that comes twice says which."""
    local = instant.astimezone(ZoneInfo(zone))
    which = f" ({local:%Z})" if walltime.which(instant, zone) else ""
    return f"{local:%a} {local.day} {local:%b %Y}, {walltime.clock(local)}{which}"


def in_seconds(instant: datetime, zone: str) -> str:
    """24 Nov, 09:05:03 by that zone's clock: for the lines of a story, which follow closely on each other."""
    local = instant.astimezone(ZoneInfo(zone))
    return f"{local.day} {local:%b, %H:%M:%S}"


def in_utc(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def late(lateness: timedelta) -> str:
    """How long after its time: 31 ms, 4.2 s, 12 min, 3 h 5 min."""
    seconds = max(0.0, lateness.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def lasting(seconds: int) -> str:
    """What a person chose, in its largest whole unit: 15 minutes, 1 hour, 7 days."""
    unit, name = next(
        ((unit, name) for unit, name in ((86_400, "day"), (3600, "hour")) if seconds >= unit and seconds % unit == 0),
        (60, "minute"),
    )
    count = seconds // unit
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def network(platform: str) -> str:
    """The network's label; its bare name when it is no longer registered."""
    try:
        return platforms.get(platform).label
    except errors.NotFound:
        return platform


def is_a_page(path: str) -> bool:
    """So that the navigation offers only what is there."""
    try:
        current_app.url_map.bind("").match(path, method="GET")
    except HTTPException:
        return False
    return True


def walltime_step(time: str) -> dict[str, str]:
    """A field for times takes whole minutes, and a browser keeps back what has seconds unless it is told."""
    return {"step": "1"} if time.count(":") == 2 else {}
