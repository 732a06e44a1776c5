"""Local wall time and zone become UTC here and nowhere else."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from postflow import config
from postflow.errors import Invalid


def instant(date: str, time: str, zone: str, which: str = "") -> datetime:
    """Wall time and IANA zone -> UTC. `which` ("first", "second") settles an hour that the clocks run through twice.

    Raises Invalid({"post_date": …}) for nonsense, for an hour that does not exist that day, and for an unsettled one.
    """
    wall = _wall(date, time, zone)
    if wall is None:
        raise Invalid({"post_date": "This is not a date and time that can be read."})
    gained = _gained(wall)
    if gained < timedelta(0):
        later = wall.astimezone(UTC).astimezone(wall.tzinfo)
        raise Invalid(
            {
                "post_date": f"{clock(wall)} does not exist on that day in {zone}: the clocks go forward."
                f" Choose another time, such as {clock(later)}."
            }
        )
    if gained and which not in ("first", "second"):
        choice = " or ".join(f"the {name} ({said})" for name, said in twice(date, time, zone))
        raise Invalid(
            {"post_date": f"{clock(wall)} comes twice on that day in {zone}: the clocks go back. Choose {choice}."}
        )
    return wall.replace(fold=1 if gained and which == "second" else 0).astimezone(UTC)


def twice(date: str, time: str, zone: str) -> list[tuple[str, str]]:
    """[("first", "CEST, UTC+02:00"), ("second", …)] for an hour that the clocks run through twice; else nothing."""
    wall = _wall(date, time, zone)
    if wall is None or _gained(wall) <= timedelta(0):
        return []
    return [("first", _clock(wall)), ("second", _clock(wall.replace(fold=1)))]


def which(at: datetime, zone: str) -> str:
    """Which of the two an instant is, when its wall time comes twice."""
    local = at.astimezone(ZoneInfo(zone))
    if not twice(f"{local:%Y-%m-%d}", clock(local), zone):
        return ""
    return "second" if local.fold else "first"


def typed(at: datetime | None, zone: str) -> dict[str, str]:
    """An instant as the fields of a form have it."""
    if at is None:
        return {"date": "", "time": "", "which": ""}
    local = at.astimezone(ZoneInfo(zone))
    return {"date": f"{local:%Y-%m-%d}", "time": clock(local), "which": which(at, zone)}


def clock(local: datetime) -> str:
    """09:05, or 09:05:30 where a person gave seconds: what they choose has whole ones, what is measured has not."""
    return f"{local:%H:%M:%S}" if local.second and not local.microsecond else f"{local:%H:%M}"


def zones() -> list[tuple[str, str]]:
    """(zone, how it reads) for a select."""
    names = (name for name in config.time_zones() if "/" in name or name == "UTC")
    return [(name, name.replace("_", " ")) for name in sorted(names) if not name.startswith("Etc/")]


def check_zone(zone: str) -> None:
    """Raises Invalid({"time_zone": …}) for what is none."""
    if zone not in config.time_zones():
        raise Invalid({"time_zone": "Choose a time zone from the list."})


def _wall(date: str, time: str, zone: str) -> datetime | None:
    form = "%Y-%m-%d %H:%M:%S" if time.count(":") == 2 else "%Y-%m-%d %H:%M"
    try:
        wall = datetime.strptime(f"{date} {time}", form).replace(tzinfo=ZoneInfo(zone))
        wall.astimezone(UTC)
    except (ValueError, ZoneInfoNotFoundError, OverflowError, OSError):
        return None
    return wall


def _gained(wall: datetime) -> timedelta:
    """How far the clocks go back around this time; negative when they go forward over it."""
    return (wall.utcoffset() or timedelta(0)) - (wall.replace(fold=1).utcoffset() or timedelta(0))


def _clock(wall: datetime) -> str:
    return f"{wall:%Z}, UTC{wall.isoformat()[-6:]}"
