"""What lives in the sandbox: plain records, all of them JSON-able so that they can be kept in SQLite."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True, kw_only=True)
class App:
    """A registered OAuth client."""

    id: str
    instance: str
    name: str
    website: str | None
    redirect_uris: list[str]
    scopes: list[str]
    client_id: str
    client_secret: str
    created_at: float


@dataclass(slots=True, kw_only=True)
class Account:
    """A person on one instance. `traits` switch on oddities: locked, silenced, disabled, never_logged_in,
    locale…
    """

    id: str
    instance: str
    username: str
    display_name: str
    created_at: float
    traits: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Code:
    """An authorisation code on its way from the consent page to the token endpoint."""

    id: str
    instance: str
    client_id: str
    account_ids: list[str]
    redirect_uri: str
    scopes: list[str]
    challenge: str | None
    expires_at: float
    used: bool = False


@dataclass(slots=True, kw_only=True)
class Token:
    """An access token. kind: user, app, short, long, facebook, page. `expires_at` None means never."""

    id: str
    instance: str
    kind: str
    client_id: str
    account_id: str | None
    account_ids: list[str]
    scopes: list[str]
    created_at: float
    expires_at: float | None = None
    refresh_token: str | None = None
    refresh_expires_at: float | None = None
    revoked: bool = False

    def is_dead(self, now: float) -> bool:
        """Revoked, or expired by then."""
        return self.revoked or (self.expires_at is not None and self.expires_at <= now)


@dataclass(slots=True, kw_only=True)
class Upload:
    """A media file: uploaded (fediverse) or fetched (Instagram)."""

    id: str
    instance: str
    account_id: str
    kind: str
    mime: str
    description: str | None
    focus: tuple[float, float] | list[float] | None
    width: int
    height: int
    size_bytes: int
    sha256: str
    created_at: float
    ready_at: float
    has_exif: bool = False
    has_gps: bool = False
    failed: bool = False
    deleted: bool = False
    status_id: str | None = None
    polls_left: int = 0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Status:
    """One post. `hidden` is None, draft (stuck, invisible), dropped (never saved) or mixed (live, not
    listed).
    """

    id: str
    instance: str
    account_id: str
    created_at: float
    committed_ns: int
    text: str
    spoiler_text: str = ""
    sensitive: bool = False
    visibility: str = "public"
    language: str | None = None
    in_reply_to_id: str | None = None
    media_ids: list[str] = field(default_factory=list)
    poll: dict[str, Any] | None = None
    client_id: str = ""
    idempotency_key: str | None = None
    hidden: str | None = None
    deleted_at: float | None = None
    edited_at: float | None = None
    visible_at: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Remembered:
    """An Idempotency-Key a server remembers, with the status it led to or the whole answer it got."""

    id: str
    at: float
    status_id: str | None = None
    answer_status: int = 0
    answer_body: str = ""


@dataclass(slots=True, kw_only=True)
class Container:
    """An Instagram media container. `upload_ids` and `children` keep their order."""

    id: str
    instance: str
    account_id: str
    media_type: str
    params: dict[str, Any]
    created_at: float
    ready_at: float
    fetching: bool = False
    is_child: bool = False
    children: list[str] = field(default_factory=list)
    upload_ids: list[str] = field(default_factory=list)
    error: str | None = None
    published_at: float | None = None
    reported_after: float = 0.0
    media_id: str | None = None


def age(record: "Record", seconds: int) -> None:
    """Every instant of the record lies so much further back. Instants are told by the names of their fields."""
    for field_ in dataclasses.fields(record):
        name, at = field_.name, getattr(record, field_.name)
        if at is not None and (name == "at" or name.endswith(("_at", "_after", "_ns"))):
            setattr(record, name, at - seconds * (1_000_000_000 if name.endswith("_ns") else 1))


Record = App | Account | Code | Token | Upload | Status | Remembered | Container
