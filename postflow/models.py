"""What PostFlow talks about: frozen values and the words for their states. Imports nothing of ours.

    User ── owns ── Account ── lives on ── Server (software, limits, capabilities)
     └──── writes ── Post (Content + post_date) ── one Delivery per Account ── Attempt(s) ── Receipt

All instants are aware UTC datetimes. Ids are database bigints; `remote_id` is the network's own opaque string.
"""

import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID, uuid5

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_serializer


class Value(BaseModel):
    """A frozen value; an unknown field is a mistake, not an extension point."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def utc_now() -> datetime:
    return datetime.now(UTC)


def storable(value: Any) -> Any:
    """Text as PostgreSQL takes it, also inside lists and mappings: no NUL, no half of a surrogate pair."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [storable(one) for one in value]
    if isinstance(value, dict):
        return {name: storable(one) for name, one in value.items()}
    return value


def web_address(value: Any) -> str | None:
    """What a server says where something is, shown as a link or a picture: an http(s) address or nothing."""
    if not isinstance(value, str) or len(value) > LONGEST_ADDRESS or not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        return value if parts.scheme in ("http", "https") and parts.hostname else None
    except ValueError:
        return None


LONGEST_ADDRESS = 4096
WebAddress = Annotated[str | None, BeforeValidator(web_address)]


# -- words ---------------------------------------------------------------------------------------------


class Visibility(StrEnum):
    """Mastodon's four; a network offers a subset (`Limits.visibilities`)."""

    public = "public"
    unlisted = "unlisted"
    private = "private"
    direct = "direct"

    @property
    def words(self) -> str:
        """As people say it."""
        return {
            "public": "everyone",
            "unlisted": "everyone, but not in public lists",
            "private": "followers",
            "direct": "only people mentioned",
        }[self.value]


class DeliveryStatus(StrEnum):
    """The states of one post on its way to one account; docs/lifecycle.md draws the arrows."""

    scheduled = "scheduled"
    preparing = "preparing"
    ready = "ready"
    sending = "sending"
    unknown = "unknown"
    published = "published"
    failed = "failed"
    attention = "attention"
    missed = "missed"
    cancelled = "cancelled"


#: Nothing moves these any more unless a person asks for it.
RESTING = frozenset(
    {
        DeliveryStatus.published,
        DeliveryStatus.failed,
        DeliveryStatus.attention,
        DeliveryStatus.missed,
        DeliveryStatus.cancelled,
    }
)
#: A request may have left for the network: no edit, move or cancel can promise anything any more.
IN_FLIGHT = frozenset({DeliveryStatus.sending, DeliveryStatus.unknown})


class AccountState(StrEnum):
    active = "active"
    needs_reconnect = "needs_reconnect"
    disconnected = "disconnected"


class MediaKind(StrEnum):
    image = "image"
    gif = "gif"  # animated; a still GIF is an image
    video = "video"


# -- people and accounts ---------------------------------------------------------------------------------


class User(Value):
    id: int
    email: str
    display_name: str
    time_zone: str
    is_owner: bool
    created_at: datetime


class Credentials(BaseModel):
    """What opens an account. Encrypted at rest (`postflow.crypto`); never shown, never logged.

    A platform that must keep more derives its own model and names it as `Platform.credentials_model`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_token: SecretStr
    refresh_token: SecretStr | None = None
    scopes: tuple[str, ...] = ()
    issued_at: datetime | None = None
    expires_at: datetime | None = None

    @field_serializer("access_token", "refresh_token", when_used="json")
    def _reveal(self, secret: SecretStr | None) -> str | None:
        """JSON is what gets encrypted, so it carries the secret; `repr` and `str` never do."""
        return secret.get_secret_value() if secret else None


class AppRegistration(BaseModel):
    """PostFlow as a client of one instance; kept once per instance, the secret encrypted at rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_id: str
    client_secret: SecretStr
    redirect_uri: str
    scopes: tuple[str, ...] = ()

    @field_serializer("client_secret", when_used="json")
    def _reveal(self, secret: SecretStr) -> str:
        return secret.get_secret_value()


class Account(Value):
    """A connected account, without its credentials: safe to show to its owner."""

    id: int
    user_id: int
    platform: str
    base_url: str
    remote_id: str
    handle: str
    display_name: str
    avatar_url: WebAddress = None
    profile_url: WebAddress = None
    state: AccountState
    state_reason: str | None = None
    token_expires_at: datetime | None = None
    throttled_until: datetime | None = None
    uploads_throttled_until: datetime | None = None  # with uploads alone: what has none left goes on
    verified_at: datetime | None = None
    created_at: datetime


class Profile(Value):
    """Who a token belongs to, as the network says."""

    remote_id: str
    handle: str  # "@ada@birds.example" on the fediverse, "@ada" on Instagram
    display_name: str = ""
    avatar_url: WebAddress = None
    profile_url: WebAddress = None


class Login(Value):
    """An account together with what opens it: what a platform needs to act for it."""

    account: Account
    credentials: Credentials
    app: AppRegistration | None = None
    version: str = ""  # which of the stored credentials these are; a renewed pair has another one


# -- servers ---------------------------------------------------------------------------------------------


class Seen(Value):
    """What a server said, as stored: another release may have kept more of it, which must not stop this one."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class PollLimits(Seen):
    max_options: int = 4
    max_option_chars: int = 50
    min_expiration_s: int = 300
    max_expiration_s: int = 2_629_746


class Limits(Seen):
    """What one server accepts. Every number comes from the server where it says so."""

    counting: Literal["mastodon", "pixelfed", "gotosocial", "graphemes", "plain", "instagram"] = "mastodon"
    max_chars: int = 500
    chars_per_url: int = 23
    max_spoiler_chars: int | None = None  # None: counted together with the text
    max_media: int = 4
    min_media: int = 0
    mixed_media: bool = True  # pictures and videos in one post
    max_videos: int = 1
    mime_types: tuple[str, ...] = ("image/jpeg", "image/png", "image/gif", "image/webp", "video/mp4")
    max_image_bytes: int = 16 * 1024 * 1024
    max_image_pixels: int = 33_177_600
    max_video_bytes: int = 99 * 1024 * 1024
    max_video_pixels: int | None = None  # width times height; None: whatever
    max_gif_pixels: int | None = None  # animated ones
    max_description_chars: int = 1500
    visibilities: tuple[Visibility, ...] = tuple(Visibility)
    spoiler: bool = True
    language: bool = True
    polls: PollLimits | None = None
    poll_with_media: bool = False
    threads: bool = True
    focus: bool = True
    posts_per_day: int | None = None  # within any 24 hours; None: nobody counts


class Capabilities(Seen):
    """How far a server's software can be trusted when an answer gets lost (docs/networks.md)."""

    #: replay: same key -> same status · bug500: replays as a 500 · tripwire: a repeat is refused, no status
    #: cached: replays the whole answer, errors too · none: the key is ignored
    idempotency: Literal["replay", "bug500", "tripwire", "cached", "none"] = "none"
    #: a second status with the same uploads is refused
    media_guard: bool = False
    #: uploads may answer 202 and must be polled before use
    async_media: bool = True
    #: GET media answers 404 once an upload is used or gone
    media_tells: bool = False
    #: the attachments of a status keep the ids of the uploads
    keeps_media_ids: bool = False
    #: an account's own list shows all of its statuses, so that what is not there was not published
    lists_all: bool = False
    #: a status says which app made it
    names_app: bool = False
    pkce: bool = False
    profile_scope: bool = False  # else read:accounts
    source: bool = True  # GET /api/v1/statuses/:id/source
    empty_text: bool = True  # takes "" beside pictures; False: the text must be left out
    #: why the network could not fetch media from us when that was last tried; "" when it could, or never fetches
    fetch_fault: str = ""


class Server(Value):
    """One instance of a network as last seen."""

    platform: str
    base_url: str
    software: str
    version: str
    title: str = ""
    limits: Limits
    capabilities: Capabilities = Capabilities()
    fetched_at: datetime


# -- posts -----------------------------------------------------------------------------------------------


class Focus(Value):
    """Where the eye should rest: -1..1 from left to right and from bottom to top, as Mastodon has it."""

    x: float = Field(ge=-1, le=1)
    y: float = Field(ge=-1, le=1)


class Attachment(Value):
    """One picture or video of a post, in the person's order."""

    media_id: int
    alt_text: str = ""
    focus: Focus | None = None


class Media(Value):
    """Facts about a stored upload; the bytes stay in the database until asked for."""

    id: int
    user_id: int
    filename: str
    kind: MediaKind
    mime: str
    size_bytes: int
    width: int
    height: int
    duration_s: float | None = None
    sha256: str
    created_at: datetime


class Poll(Value):
    options: tuple[str, ...]
    expires_in_s: int
    multiple: bool = False
    hide_totals: bool = False


class Content(Value):
    """What is said, without where and when. `options` holds each platform's own extras by its name."""

    text: str = ""
    spoiler_text: str = ""
    sensitive: bool = False
    visibility: Visibility = Visibility.public
    language: str | None = None  # ISO 639-1
    poll: Poll | None = None
    attachments: tuple[Attachment, ...] = ()
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)


class NewPost(Value):
    """A parsed form: what a person wants to happen. `thread` holds the parts after the first."""

    content: Content
    thread: tuple[Content, ...] = ()
    account_ids: tuple[int, ...]
    post_date: datetime | None  # None only for a draft
    time_zone: str
    grace_s: int | None = None  # None: the setting


class Post(Value):
    id: int
    user_id: int
    parent_id: int | None  # the part before it in a thread
    content: Content
    post_date: datetime | None
    time_zone: str
    grace_s: int | None
    revision: int
    draft_account_ids: tuple[int, ...] | None  # not None: a draft
    created_at: datetime
    updated_at: datetime

    @property
    def is_draft(self) -> bool:
        return self.draft_account_ids is not None


# -- deliveries --------------------------------------------------------------------------------------------


#: `error_code` of what has become a post of its own: sent here, too, it would be out twice.
SET_ASIDE = "post_of_its_own"


class Delivery(Value):
    """One post on its way to one account: the row is the truth, jobs are only wake-up calls."""

    id: int
    post_id: int
    account_id: int
    status: DeliveryStatus
    status_at: datetime
    revision: int  # the post's revision the staged state belongs to
    staged: dict[str, Any] | None
    attempt_no: int
    key_seed: UUID
    key_no: int
    asked_at: datetime | None  # a person asked again after post_date: lateness counts from here
    not_before: datetime | None
    wake_at: datetime | None
    claim: str | None
    first_sent_at: datetime | None  # of the first request at this revision that may have been carried out
    sent_at: datetime | None  # of the latest request
    published_at: datetime | None
    remote_id: str | None
    permalink: WebAddress
    looks: int
    absent_looks: int
    first_absent_at: datetime | None
    faults: int  # passing ones, since a person last had a word
    deaths: int  # of workers that prepared it, since it was last ready or a person had a word
    pauses: int  # which the network asked for without saying how long
    error_code: str | None
    error: str | None
    next_step: str | None
    notes: tuple[str, ...]
    created_at: datetime

    @property
    def is_flawed(self) -> bool:
        """Out, and its person has not yet seen what is wrong with it: it lacks something, or is out twice."""
        return self.status is DeliveryStatus.published and self.error_code is not None

    @property
    def is_set_aside(self) -> bool:
        """Its person has made a post of its own of it, which goes out in its place."""
        return self.error_code == SET_ASIDE

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at one revision, until the network has used it up (`key_no`)."""
        return str(uuid5(self.key_seed, f"{self.revision}:{self.key_no}"))


class DeliveryEvent(Value):
    """A line of the delivery's story, as the person reads it."""

    id: int
    delivery_id: int
    at: datetime
    status: DeliveryStatus
    sentence: str
    detail: dict[str, Any]


class OutgoingMedia(Value):
    """A rendition made to fit the account's server. `data` is loaded while preparing, empty at the commit."""

    media_id: int
    kind: MediaKind
    mime: str
    width: int
    height: int
    size_bytes: int
    alt_text: str
    focus: Focus | None = None
    data: bytes = Field(default=b"", repr=False)
    public_url: str | None = None  # where the network may fetch it (Instagram); signed, expiring


class Outgoing(Value):
    """All a platform needs to publish one delivery."""

    delivery_id: int
    login: Login
    server: Server
    content: Content
    media: tuple[OutgoingMedia, ...]
    reply_to_remote_id: str | None
    idempotency_key: str
    #: the same for posts that a look on the network could take for each other
    likeness: str = ""
    #: since the first request for this revision that may have been carried out; None when there was none
    sent_ago_s: float | None = None
    #: when this was gathered, by the database's clock, and by this machine's that is never set
    gathered_at: datetime = Field(default_factory=utc_now)
    gathered_s: float = Field(default_factory=time.monotonic, repr=False)

    def now(self) -> datetime:
        """By the database's clock: several workers go on where one of them began, and theirs may be hours apart."""
        return self.gathered_at + timedelta(seconds=time.monotonic() - self.gathered_s)

    @property
    def sent_before(self) -> bool:
        return self.sent_ago_s is not None


class Attempt(Value):
    """What is known about a request whose outcome is not."""

    attempt_no: int
    first_sent_at: datetime  # of this revision's first request that may have been carried out
    sent_at: datetime  # of the latest request
    looks: int  # how often the network was asked already
    absent_looks: int  # how often it said "not there", and never anything else in between
    first_absent_at: datetime | None
    taken_remote_ids: frozenset[str]  # what other deliveries are known to be, whoever of us has connected this account
    rivalled: bool = False  # another post with the same words may be what is found: words alone do not tell
    error_code: str = ""  # why its outcome is not known
    still_ours_s: float = (
        65.0  # so long after `sent_at` something of it may still be on its way (`deadline.still_ours_s`)
    )
    now: datetime = Field(default_factory=utc_now)  # by the clock that wrote the instants above: the database's


class Receipt(Value):
    """What the network answered: the post is live. `notes` are sentences when it is not as asked."""

    remote_id: str | None
    permalink: WebAddress = None
    notes: tuple[str, ...] = ()
    shortfall: str | None = None  # what its person has to know of at once, such as a picture that is not there


class Found(Value):
    """Reconciled: it did go out."""

    receipt: Receipt


class SafeToResend(Value):
    """Reconciled: it provably did not go out, or a repeat cannot double it."""

    why: str
    new_key: bool = False  # the former key is burnt
    restage: bool = False  # uploads or containers must be made anew
    settled: bool = False  # nothing of the former requests can come up any more: the next one is a first one


class LookAgain(Value):
    """Not decided yet. `absent`: this look saw nothing of the post (True), or a sign of it (False); None: it could not see."""

    in_s: float
    why: str
    absent: bool | None = None


class Undecidable(Value):
    """No look will tell any more: a person has to. `why` is a sentence for that person."""

    why: str


Verdict = Found | SafeToResend | LookAgain | Undecidable


class Problem(Value):
    """What a network would refuse (or should be told), found while composing."""

    sentence: str
    field: str = "text"  # text, spoiler_text, media, media.<n>, visibility, poll, accounts, post_date, options.<x>
    blocking: bool = True
