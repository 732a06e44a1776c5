"""What a network's package tells the core about itself: a Family, which registry.py names."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.core import links, model, wire
from sandbox.core.instance import Instance
from sandbox.core.software import Profile
from sandbox.core.store import Store

Handler = Callable[..., Awaitable[wire.Response]]
Route = tuple[str, str, Handler]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Family:
    """One network. Handlers take a Call and what their path's groups matched; other callables a Call first, too.

    software: how each usually behaves, by its name and version. scopes: what a client usually asks for. connect: the
    credentials of (call, account, scopes or None, (app's name, website, redirect URI), flavour). limited: its 429, of
    (call, fault, seconds). answers: what fault kinds of its own answer, of (call, fault). consent: HTML fields on the
    consent page. control: routes of its own on the control port.
    """

    routes: list[Route]
    missing: Handler
    software: dict[str, Callable[[str, str | None], Profile]] = field(default_factory=dict)
    scopes: tuple[str, ...] = ()
    connect: Callable[..., Any] | None = None
    account_id: Callable[[Store], str] = Store.snowflake
    profile_url: Callable[[Instance, model.Account], str] = links.profile_url
    status_url: Callable[[Instance, model.Account, model.Status], str] = links.status_url
    limited: Callable[..., wire.Response] | None = None
    answers: dict[str, Callable[..., wire.Response]] = field(default_factory=dict)
    consent: str = ""
    control: list[Route] = field(default_factory=list)
