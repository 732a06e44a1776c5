"""Tells people what `postflow.notifications.notices` wrote down: by mail to the address they sign in with, and to one webhook.

At least once by each way that is configured: what was told is marked afterwards, so a sender that dies in between tells
it again. Mails carry the same Message-ID then, and webhook bodies the same ids, for whoever wants to drop repeats.
"""

import asyncio
import hashlib
import hmac
import json
import smtplib
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx
import structlog
from psycopg_pool import AsyncConnectionPool

from postflow.config import Settings
from postflow.errors import PostFlowError
from postflow.http import addresses
from postflow.notifications import notices
from postflow.notifications.notices import Notice

log = structlog.stdlib.get_logger("postflow.notifications.sender")

SMTP_TIMEOUT_S = 20.0
#: Its own: a mail server that swallows everything must not hold the threads that look up addresses for due posts.
_POSTMEN = ThreadPoolExecutor(2, thread_name_prefix="mail")
_PORTS = {"smtp": 587, "smtps": 465}


class NotTold(PostFlowError):
    """This way did not work this time; the message is for the operator's log and names no secret."""


async def tell(pool: AsyncConnectionPool, settings: Settings, http: httpx.AsyncClient) -> int:
    """Everything that is due, one person after the other. Returns how many notices were told in full."""
    told = 0
    if settings.smtp_url is None and settings.webhook_url is None:
        return told
    while True:
        async with pool.connection() as conn:
            batch = await notices.claim(conn)
        if not batch:
            return told
        told += await _told(pool, settings, http, batch)


async def _told(pool: AsyncConnectionPool, settings: Settings, http: httpx.AsyncClient, batch: list[Notice]) -> int:
    faults = list[str]()
    try:
        if settings.smtp_url and (unmailed := [one for one in batch if one.mailed_at is None]):
            await asyncio.get_running_loop().run_in_executor(_POSTMEN, mail, settings, unmailed)
            async with pool.connection() as conn:
                await notices.mark_mailed(conn, unmailed)
    except NotTold as fault:
        faults.append(str(fault))
    try:
        if settings.webhook_url and (unposted := [one for one in batch if one.posted_at is None]):
            await post(settings, http, unposted)
            async with pool.connection() as conn:
                await notices.mark_posted(conn, unposted)
    except NotTold as fault:
        faults.append(str(fault))
    async with pool.connection() as conn:
        if not faults:
            await notices.mark_sent(conn, batch)
            return len(batch)
        await notices.note_fault(conn, batch, "; ".join(faults))
    last = max(one.tries for one in batch) >= notices.MOST_TRIES
    log.warning("not told, given up" if last else "not told, trying again", count=len(batch), why="; ".join(faults))
    return 0


# -- mail ----------------------------------------------------------------------------------------------------


def mail(settings: Settings, batch: Sequence[Notice]) -> None:
    """One mail with all of it. Blocks. Raises NotTold."""
    assert settings.smtp_url
    letter = _letter(settings, batch)
    try:
        with _server(settings) as server:
            server.send_message(letter)
    except (smtplib.SMTPException, OSError) as fault:
        code = getattr(fault, "smtp_code", "")
        raise NotTold(f"mail: {type(fault).__name__} {code}".strip()) from None


def _letter(settings: Settings, batch: Sequence[Notice]) -> EmailMessage:
    first = batch[0]
    letter = EmailMessage()
    more = f" (and {len(batch) - 1} more)" if len(batch) > 1 else ""
    letter["Subject"] = " ".join(f"{first.subject}{more}".split())
    letter["From"], letter["To"] = settings.mail_from, first.email
    letter["Date"] = formatdate(first.created_at.timestamp())
    host = parseaddr(settings.mail_from or "")[1].rpartition("@")[2] or "postflow"
    letter["Message-ID"] = f"<notice-{first.id}-{batch[-1].id}@{host}>"
    letter["Auto-Submitted"] = "auto-generated"
    parts = [f"{one.subject}\n\n{one.body}" if len(batch) > 1 else one.body for one in batch]
    letter.set_content("\n\n\n".join(parts) + f"\n\n-- \nPostFlow, {settings.public_url}\n")
    return letter


def _server(settings: Settings) -> smtplib.SMTP:
    """Signed in. A password never travels in the clear, except to a host the operator allows as private."""
    url = urlsplit(settings.smtp_url.get_secret_value() if settings.smtp_url else "")
    host, port = url.hostname or "", url.port or _PORTS[url.scheme]
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, port, timeout=SMTP_TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        server = smtplib.SMTP(host, port, timeout=SMTP_TIMEOUT_S)
    try:
        server.ehlo()
        if url.scheme == "smtp" and server.has_extn("starttls"):
            server.starttls(context=ssl.create_default_context())
        elif url.scheme == "smtp" and url.username and not addresses.Allowed(settings.allowed_private).host(host, port):
            raise smtplib.SMTPNotSupportedError("no encryption offered")
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
    except BaseException:
        server.close()
        raise
    return server


# -- webhook -------------------------------------------------------------------------------------------------


async def post(settings: Settings, http: httpx.AsyncClient, batch: Sequence[Notice]) -> None:
    """One signed request with all of it; any 2xx is thanks. Raises NotTold."""
    assert settings.webhook_url
    body = json.dumps(_told_to_a_program(settings, batch), ensure_ascii=False).encode()
    sent_at = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "X-PostFlow-Timestamp": sent_at,
        "X-PostFlow-Signature": f"sha256={signature(settings, sent_at, body)}",
    }
    try:
        answer = await http.post(settings.webhook_url.get_secret_value(), content=body, headers=headers)
    except httpx.HTTPError as fault:
        raise NotTold(f"webhook: {type(fault).__name__}") from None
    if not answer.is_success:
        raise NotTold(f"webhook: HTTP {answer.status_code}")


def signature(settings: Settings, sent_at: str, body: bytes) -> str:
    """HMAC-SHA256 over `<timestamp>.<body>`, in hexadecimal: an old request cannot be played again as a new one."""
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else ""
    return hmac.new(secret.encode(), sent_at.encode() + b"." + body, hashlib.sha256).hexdigest()


def _told_to_a_program(settings: Settings, batch: Sequence[Notice]) -> dict[str, Any]:
    return {
        "from": settings.public_url,
        "text": "\n\n".join(f"{one.subject}\n{one.body}" for one in batch),
        "notices": [
            {
                "id": one.id,
                "kind": one.kind,
                "person": one.email,
                "subject": one.subject,
                "body": one.body,
                "created_at": one.created_at.isoformat(),
            }
            for one in batch
        ],
    }
