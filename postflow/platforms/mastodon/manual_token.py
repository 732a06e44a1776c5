"""A token that its person made at the server, for where the consent page does not work.

Nobody lists what a foreign token may do, so it is tried: each request here changes nothing and is refused with 403
exactly when its scope is missing. docs.joinmastodon.org/api/oauth-scopes
"""

from collections.abc import Mapping, Sequence

import httpx

from postflow.errors import Unauthorized
from postflow.platforms import answers
from postflow.platforms.base import ConnectOption, SignInField

#: Nothing has the id 0.
_PROBES = {
    "read:statuses": ("GET", "/api/v1/accounts/{me}/statuses?limit=1"),
    "write:media": ("PUT", "/api/v1/media/0"),
    "write:statuses": ("DELETE", "/api/v1/statuses/0"),
}
_PURPOSES = {
    "profile": "see whose account it is",
    "read:accounts": "see whose account it is",
    "read": "see whose account it is",
    "read:statuses": "look whether a post went out when the answer got lost",
    "write:media": "upload pictures",
    "write:statuses": "publish posts",
}

OPTION = ConnectOption(
    key="token",
    label="With a token made by hand",
    asks_for="fields",
    hint="For Mastodon, Pixelfed and their kin, where the usual way does not work: make an access token in the developer "
    "settings of your account there, with the scopes read and write, or profile, read:statuses, write:media and "
    "write:statuses.",
    fields=(
        SignInField(name="instance", label="Address of your server", hint="mastodon.social"),
        SignInField(name="token", label="Access token", secret=True),
    ),
)


async def missing_scopes(http: httpx.AsyncClient, base_url: str, headers: Mapping[str, str], me: str) -> list[str]:
    """Raises Unauthorized, Retry."""
    lacking = []
    for scope, (method, path) in _PROBES.items():
        answer = await answers.ask(http, method, base_url + path.format(me=me), headers=headers)
        if answer.status_code == 401:
            raise Unauthorized("The server does not accept this token.")
        if answer.status_code == 403:
            lacking.append(scope)
    return lacking


def said(scopes: Sequence[str]) -> str:
    """ "upload pictures (write:media) and publish posts (write:statuses)" """
    words = [f"{_PURPOSES.get(scope, 'use it')} ({scope})" for scope in scopes]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
