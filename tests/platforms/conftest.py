"""Each network of the sandbox as the engine meets it: a platform, an account on it, a post with a picture."""

import io
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.fernet import Fernet
from PIL import Image
from pydantic import SecretStr

from postflow import config, platforms
from postflow.errors import Retry
from postflow.models import (
    Account,
    AccountState,
    AppRegistration,
    Attachment,
    Attempt,
    Content,
    Login,
    MediaKind,
    Outgoing,
    OutgoingMedia,
    Receipt,
    utc_now,
)
from postflow.platforms.base import Platform
from postflow.platforms.instagram import Instagram
from sandbox import Sandbox
from tests.platforms.fourth import server
from tests.platforms.networks import BY_NAME, NETWORKS, OURS, Network


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """With every network that the suite knows, one that speaks another protocol among them."""
    with Sandbox.start() as running:
        server.teach(running)
        for network in NETWORKS:
            if network.software:
                running.add_instance(network.software, network.version, name=network.name, **network.options)
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Accept": "application/json", "User-Agent": "PostFlow-tests/1"}
    async with httpx.AsyncClient(headers=headers, timeout=5, trust_env=False) as client:
        yield client


class Case:
    """One post on its way to one account."""

    def __init__(self, sandbox: Sandbox, http: httpx.AsyncClient, network: Network, outgoing: Outgoing) -> None:
        self.sandbox, self.http, self.network, self.outgoing = sandbox, http, network, outgoing
        self.platform: Platform = platform_of(sandbox, network)
        self.checkpoints: list[Any] = []
        self.staged: Any = None
        self.first_sent_at = self.sent_at = utc_now()

    @property
    def settings(self) -> config.Settings:
        return settings()

    @property
    def account(self) -> str:
        return self.outgoing.login.account.remote_id

    def fault(self, kind: str, **options: Any) -> None:
        self.sandbox.faults.add(kind, account=self.account, **options)

    def fault_at_commit(self, kind: str, **options: Any) -> None:
        self.fault(kind, method="POST", path=self.network.commit, **options)

    def refuse_at_commit(self, status: int, text: str) -> None:
        """A definite refusal in the network's own manner."""
        if not self.network.graph:
            return self.fault_at_commit("status", status=status, body="json", text=text)
        code, subcode = {403: (368, None), 404: (100, 2207023), 413: (36000, 2207004), 422: (36004, 2207010)}[status]
        return self.fault_at_commit("graph_error", code=code, subcode=subcode, text=text, status=status)

    def nobody_listens(self) -> None:
        """Where the account lives, no port is open."""
        nowhere = "http://127.0.0.1:9"
        if isinstance(self.platform, Instagram):
            self.platform = Instagram(self.platform.settings.model_copy(update={"instagram_url": nowhere}))
        account = self.outgoing.login.account.model_copy(update={"base_url": nowhere})
        self.changed(login=self.outgoing.login.model_copy(update={"account": account}))

    async def spoil_picture(self) -> None:
        """What is sent, or found where Meta fetches, is a text."""
        (media,) = self.outgoing.media
        media = media.model_copy(update={"data": b"This is no picture at all."})
        if self.network.graph:
            media = media.model_copy(update={"public_url": f"{self.sandbox.url('mastodon')}/api/v1/instance"})
        self.changed(media=(media,))

    def uploads(self, staged: Any) -> list[Any]:
        """What preparing has left there so far, in order."""
        found = staged["children"].values() if self.network.graph else staged["uploads"]
        return [one["remote_id"] for one in found]

    def changed(self, **changes: Any) -> None:
        self.outgoing = self.outgoing.model_copy(update=changes)

    async def checkpoint(self, staged: Any) -> None:
        self.checkpoints.append(staged.model_dump(mode="json"))

    async def prepare(self) -> Any:
        self.staged = await self.platform.prepare(self.http, self.outgoing, self.staged, self.checkpoint)
        return self.staged

    async def prepare_patiently(self) -> Any:
        """Thrown back a few times, it goes on from the last checkpoint, as a worker would."""
        for _ in range(3):
            try:
                return await self.prepare()
            except Retry as error:
                thrown_back = error
                if self.checkpoints:
                    self.staged = self.platform.staged_model.model_validate(self.checkpoints[-1])
        raise thrown_back

    async def commit(self) -> Receipt:
        self.sent_at = utc_now()
        return await self.platform.commit(self.http, self.outgoing, self.staged)

    async def publish(self) -> Receipt:
        await self.prepare()
        return await self.commit()

    async def look(self, *, absent_for_s: float | None = None, sent_s_ago: float = 120, **known: Any) -> Any:
        now = utc_now() + known.pop("ahead", timedelta())
        first_absent = now - timedelta(seconds=absent_for_s) if absent_for_s is not None else None
        attempt = Attempt(
            attempt_no=1,
            first_sent_at=known.pop("first_sent_at", self.first_sent_at),
            sent_at=now - timedelta(seconds=sent_s_ago),
            looks=known.pop("looks", 1),
            absent_looks=known.pop("absent_looks", int(first_absent is not None)),
            first_absent_at=first_absent,
            taken_remote_ids=known.pop("taken", frozenset()),
            error_code=known.pop("error_code", ""),
            rivalled=known.pop("rivalled", False),
            now=now,
        )
        return await self.platform.reconcile(self.http, self.outgoing, self.staged, attempt)

    def times_out(self) -> int:
        return self.sandbox.ledger.times_published(self.outgoing.content.text, account=self.account)


Start = Callable[..., Any]


@pytest.fixture
def start(sandbox: Sandbox, http: httpx.AsyncClient) -> Start:
    """await start("mastodon", pictures=1, text=…, scopes=…, **traits) -> Case"""

    async def started(instance: str, *, pictures: int = 1, scopes: Any = None, **content: Any) -> Case:
        network = BY_NAME[instance]
        flavour = {"flavour": network.flavour} if network.flavour else {}
        known = sandbox.add_account(instance, f"p{uuid.uuid4().hex[:10]}", scopes=scopes, **flavour)
        platform = platform_of(sandbox, network)
        media = tuple(picture(number) for number in range(pictures))
        if network.graph:
            media = tuple([await hosted(sandbox, http, one) for one in media])
        content = {"text": f"Good morning {uuid.uuid4().hex}", **content}
        outgoing = Outgoing(
            delivery_id=1,
            login=login(platform, known),
            server=await platform.server(http, known.url),
            content=Content(attachments=tuple(Attachment(media_id=one.media_id) for one in media), **content),
            media=media,
            reply_to_remote_id=None,
            idempotency_key=str(uuid.uuid4()),
        )
        return Case(sandbox, http, network, outgoing)

    return started


def settings(**changes: Any) -> config.Settings:
    return config.Settings.model_validate(
        {
            "database_url": "postgresql://nobody@localhost/nothing",
            "secret_key": "s" * 32,
            "encryption_keys": Fernet.generate_key().decode(),
            "public_url": "https://postflow.example",
            "allowed_private": "127.0.0.0/8",
            **changes,
        }
    )


def platform_of(sandbox: Sandbox, network: Network) -> Platform:
    """The registered one; Instagram's, which is a single place, moved into the sandbox."""
    if network.platform != "instagram":
        return OURS.get(network.platform) or platforms.get(network.platform)
    return Instagram(
        settings(
            instagram_url=sandbox.url(network.name),
            instagram_app_id="990000000000001",
            instagram_app_secret="sandbox-instagram-secret",
            facebook_app_id="880000000000001",
            facebook_app_secret="sandbox-facebook-secret",
        )
    )


def login(platform: Platform, known: Any) -> Login:
    return Login(
        account=Account(
            id=1,
            user_id=1,
            platform=platform.name,
            base_url=known.url,
            remote_id=known.account_id,
            handle=known.handle,
            display_name=known.handle,
            state=AccountState.active,
            created_at=utc_now(),
        ),
        credentials=platform.credentials_model(
            access_token=SecretStr(known.access_token),
            refresh_token=SecretStr(known.refresh_token) if known.refresh_token else None,
            scopes=tuple(known.scopes),
            **({"flavour": "facebook", "user_token": SecretStr(known.user_token)} if known.user_token else {}),
        ),
        app=AppRegistration(
            client_id=known.client_id,
            client_secret=SecretStr(known.client_secret),
            redirect_uri="http://127.0.0.1/callback",
        ),
    )


async def hosted(sandbox: Sandbox, http: httpx.AsyncClient, media: OutgoingMedia) -> OutgoingMedia:
    """As a JPEG at an address where Meta may fetch it: any of the sandbox's servers will do as the public web."""
    data = media.data
    if media.mime == "image/png":
        out = io.BytesIO()
        Image.open(io.BytesIO(media.data)).save(out, "JPEG")
        data = out.getvalue()
    host = sandbox.add_account("mastodon", "host")
    headers = {"Authorization": f"Bearer {host.access_token}"}
    files = {"file": ("x", data, "image/jpeg")}
    answer = await http.post(f"{host.url}/api/v1/media", headers=headers, files=files)
    url = answer.raise_for_status().json()["url"]
    return media.model_copy(update={"mime": "image/jpeg", "data": data, "size_bytes": len(data), "public_url": url})


def picture(number: int) -> OutgoingMedia:
    out = io.BytesIO()
    Image.new("RGB", (32 + number, 24), (number * 40 % 255, 120, 200)).save(out, "PNG")
    data = out.getvalue()
    return OutgoingMedia(
        media_id=number + 1,
        kind=MediaKind.image,
        mime="image/png",
        width=32 + number,
        height=24,
        size_bytes=len(data),
        alt_text=f"Picture {number}",
        data=data,
    )
