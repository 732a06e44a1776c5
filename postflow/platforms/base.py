"""The protocol every network speaks to the rest of PostFlow, and the one place where httpx errors become ours.

A platform is a stateless object: HTTP in, values out, no SQL. It gets an `httpx.AsyncClient` per call (`postflow.http.clients`
made it: guarded addresses, no redirects, capped answers) and returns or raises what models.py and errors.py define.

The life of one delivery on a platform:

    prepare(outgoing, staged, checkpoint) -> staged     minutes early; uploads, containers: unseen, repeatable
    commit(outgoing, staged)              -> Receipt    at post_date; THE ONE VISIBLE CALL, exactly one request
    reconcile(outgoing, staged, attempt)  -> Verdict    only after OutcomeUnknown: look, never send
    permalink(outgoing, receipt)          -> str|None   best effort, after the receipt is safely stored
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import httpx
from pydantic import BaseModel, Field

from postflow.errors import ConnectError
from postflow.models import (
    Account,
    AppRegistration,
    Attempt,
    Content,
    Credentials,
    Limits,
    Login,
    Media,
    Outgoing,
    Problem,
    Profile,
    Receipt,
    Server,
    Value,
    Verdict,
)

Checkpoint = Callable[[BaseModel], Awaitable[None]]


class SignInField(Value):
    """One line of a form in which a person signs in, where a network has no consent page."""

    name: str  # "instance" is the server's address
    label: str
    hint: str = ""
    value: str = ""  # what is filled in already
    secret: bool = False  # never shown again


class ConnectOption(Value):
    """One way to connect, as the connect page shows it."""

    key: str  # e.g. "instance", "instagram-login", "facebook-login"
    label: str
    #: instance: an address, then the consent page there · nothing: a button to the consent page · fields: a form
    asks_for: Literal["instance", "nothing", "fields"]
    fields: tuple[SignInField, ...] = ()
    hint: str = ""
    available: bool = True
    unavailable_because: str = ""
    warning: str = ""  # what the operator should set right, though connecting works


class OptionField(Value):
    """One extra the composer offers for a network; the form name is `<platform>.<name>`."""

    name: str
    label: str
    kind: Literal["text", "choice", "flag", "lines"]  # lines: one entry per line
    choices: tuple[tuple[str, str], ...] = ()
    hint: str = ""


class Authorization(Value):
    """Where to send the person, and what to remember until they come back. `memo` may hold secrets: store it sealed."""

    url: str
    memo: dict[str, Any] = Field(default_factory=dict)


class Connected(Value):
    """An account a person has just allowed us to use."""

    profile: Profile
    credentials: Credentials
    notes: tuple[str, ...] = ()  # sentences for the person: connected, but


class Platform(Protocol):
    """What a network must (bodies of `...`) and may (the others) do. Derive from it: what has a body is inherited."""

    name: ClassVar[str]  # stored in accounts.platform
    label: ClassVar[str]  # shown to people
    #: nodeinfo software names this platform speaks; () when people do not type an address
    software: ClassVar[frozenset[str]] = frozenset()
    credentials_model: ClassVar[type[Credentials]] = Credentials
    #: the platform's own checkpointed state between prepare and commit; jsonb in deliveries.staged
    staged_model: ClassVar[type[BaseModel]]
    #: how early to prepare, and how old prepared things may get before they are made anew
    prepare_lead_s: ClassVar[float] = 600
    staged_life_s: ClassVar[float] = 20 * 3600
    #: True when the network fetches media from our public URL instead of being sent the bytes
    fetches_media: ClassVar[bool] = False

    # -- connecting --------------------------------------------------------------------------------------
    def connect_options(self) -> Sequence[ConnectOption]: ...

    def option_fields(self) -> Sequence[OptionField]:
        return ()

    def parse_options(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The composer's fields (strings) -> what `Content.options[name]` stores. Raises Invalid({field: sentence})."""
        return {}

    async def server(self, http: httpx.AsyncClient, base_url: str) -> Server:
        """What the instance is and accepts, asked anew. Raises ConnectError when it is not one of this platform."""
        ...

    async def register(
        self, http: httpx.AsyncClient, server: Server, redirect_uri: str, option: str
    ) -> AppRegistration:
        raise ConnectError(f"{self.label} has no consent page.")

    async def knows_app(self, http: httpx.AsyncClient, server: Server, app: AppRegistration) -> bool:
        """False only when the server says for certain that it has forgotten PostFlow: then it registers again."""
        return True

    async def authorize(self, server: Server, app: AppRegistration, *, state: str, option: str) -> Authorization:
        raise ConnectError(f"{self.label} has no consent page.")

    async def exchange(
        self, http: httpx.AsyncClient, server: Server, app: AppRegistration, code: str, memo: Mapping[str, Any]
    ) -> Sequence[Connected]:
        """The code from the redirect -> the accounts it opens (several only on Facebook Login). Raises ConnectError."""
        raise ConnectError(f"{self.label} has no consent page.")

    async def sign_in(self, http: httpx.AsyncClient, server: Server, typed: Mapping[str, str]) -> Sequence[Connected]:
        """The fields of an option that asks for them -> the account they open. Raises ConnectError."""
        raise ConnectError(f"{self.label} is connected on its own consent page.")

    # -- keeping alive -----------------------------------------------------------------------------------
    async def verify(self, http: httpx.AsyncClient, login: Login) -> Profile:
        """Does the token still work, and for whom? Raises Unauthorized, Retry."""
        ...

    async def is_itself(self, http: httpx.AsyncClient, base_url: str) -> bool:
        """Is it the network that answers there? Asked without a token, once one was refused: gateways refuse them, too."""
        return True

    def refresh_due(self, login: Login, *, now: Any) -> bool:
        return False

    async def refresh(self, http: httpx.AsyncClient, login: Login) -> Credentials:
        """New credentials. Raises Unauthorized (reconnect), Retry (nothing changed), OutcomeUnknown (the old may be dead)."""
        return login.credentials

    async def revoke(self, http: httpx.AsyncClient, login: Login) -> None:
        """Gives the access back where the network has a way to."""

    # -- composing ---------------------------------------------------------------------------------------
    def count(self, content: Content, limits: Limits) -> int: ...

    def check(
        self, content: Content, media: Sequence[Media], server: Server, account: Account, *, is_reply: bool
    ) -> Sequence[Problem]:
        """Everything this network would refuse, as sentences that say what to do."""
        ...

    def recipe(self, content: Content, media: Media, server: Server, first: Media | None = None) -> Any:
        """The `postflow.media.renditions.Recipe` that makes this upload fit, or None to send it as it is. `first` is the first
        upload of the post: some networks cut all pictures to its shape.
        """
        return None

    # -- publishing --------------------------------------------------------------------------------------
    async def prepare(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel | None, checkpoint: Checkpoint
    ) -> BaseModel: ...

    async def still_staged(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel) -> None:
        """Moments before the first commit, while there is time: raises StageLost when what was prepared is gone and the
        network would publish without it.
        """

    async def commit(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel) -> Receipt: ...

    async def reconcile(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel, attempt: Attempt
    ) -> Verdict: ...

    def recognizes(self, content: Content) -> bool:
        """Whether a post can be told from the account's others, so that a second one like it is a double of it."""
        return bool(content.text.strip())

    async def permalink(self, http: httpx.AsyncClient, login: Login, receipt: Receipt) -> str | None:
        return receipt.permalink

    async def located(self, http: httpx.AsyncClient, login: Login, link: str) -> Receipt:
        """A person found the post at this address -> what stands there, without an id where nobody can tell. Raises
        Invalid({"link": …}) for an address where none of this account's posts stands, and when nobody can be asked.
        """
        return Receipt(remote_id=None, permalink=link)
