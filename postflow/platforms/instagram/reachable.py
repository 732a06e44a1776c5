"""Could Meta fetch a picture from us? Facts of the settings first, then a probe fetched through the public address.

Our own view is not Meta's: a router may not let us reach ourselves, a name may lead elsewhere inside the house. So the
settings' faults forbid, while what the probe found is only said.
"""

import re
from urllib.parse import urlsplit

import httpx

from postflow import config
from postflow.http import addresses
from postflow.media import signed_links
from postflow.platforms import answers

_HINT = "Set POSTFLOW_PUBLIC_URL to the https address at which the internet reaches this PostFlow."
#: Some guards in front of a web app turn away what does not say who it is; this is how Meta's fetcher calls itself.
_AGENT = "facebookexternalhit/1.1"
_INSIDE = (".localhost", ".local", ".internal", ".lan", ".home", ".home.arpa", ".test", ".invalid")
_TIMEOUT_S = 8.0


def refusal(settings: config.Settings) -> str | None:
    """Why Meta can certainly not fetch from `public_url`; None when it might. Asks nobody. The sandbox fetches from
    anywhere.
    """
    if settings.instagram_url:
        return None
    parts = urlsplit(settings.public_url)
    host = (parts.hostname or "").rstrip(".")
    fault = None
    if parts.scheme != "https":
        fault = "is not https"
    elif not re.fullmatch(r"[!-~]+", settings.public_url):
        fault = "is not written in plain letters (use its xn-- form)"
    elif addresses.is_private_name(host) or not re.search("[.:]", host) or host.endswith(_INSIDE):
        fault = "is known inside your own network only"
    return f"Instagram fetches pictures from PostFlow, but {settings.public_url} {fault}. {_HINT}" if fault else None


async def probe(http: httpx.AsyncClient, settings: config.Settings) -> str | None:
    """Fetches a tiny picture through `public_url`, as Meta would. A sentence when that failed, None when it worked."""
    if settings.instagram_url:
        return None
    return refusal(settings) or await fetched(http, settings)


async def fetched(http: httpx.AsyncClient, settings: config.Settings) -> str | None:
    url = signed_links.sign(settings, signed_links.PROBE_ID, "", life_s=300)
    try:
        headers = {"User-Agent": _AGENT, "Accept": "image/*"}
        answer = await http.get(url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=False)
    except (*answers.NOT_SENT, *answers.MAYBE_SENT) as error:
        return _said(settings, f"it could not be reached from here ({_why(error)})")
    if answer.is_redirect:
        return _said(settings, "it sends visitors to another address")
    if answer.status_code != 200:
        return _said(settings, f"it answered with HTTP {answer.status_code}")
    if answer.content != signed_links.PROBE:
        return _said(settings, "something else than PostFlow answered there")
    return None


def _said(settings: config.Settings, what: str) -> str:
    return (
        f"Instagram fetches pictures from {settings.public_url}; when PostFlow tried that itself, {what}. If the "
        "internet does reach it there, all is well; otherwise Instagram will refuse pictures."
    )


def _why(error: httpx.HTTPError) -> str:
    return "a private address" if "private address" in str(error) else type(error).__name__
