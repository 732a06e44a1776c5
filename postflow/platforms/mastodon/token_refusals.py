"""A token that is refused where it asks whose it is: what is wrong, the token, its scopes, or the whole account?

Mastodon says so in the person's language, except when asked for English (docs.joinmastodon.org/methods/accounts).
"""

from collections.abc import Mapping

import httpx

from postflow.errors import PublishError, Unauthorized
from postflow.platforms import answers

#: (words of the server in English, code, ours, what to do). Each software has its own; the first that fits counts.
_MEANINGS = (
    (
        ("pending approval", "awaiting approval"),
        "pending",
        "The server's administrators have not approved this account yet.",
        "Wait until they have, then connect the account again.",
    ),
    (
        ("confirm",),  # "missing a confirmed e-mail address"
        "unconfirmed",
        "The account's e-mail address is not confirmed yet.",
        "Follow the link in the server's mail, then connect the account again.",
    ),
    (
        ("disabled", "suspended", "deactivated"),
        "disabled",
        "The server has switched this account off.",
        "Ask its administrators, then connect the account again.",
    ),
    (("scope", "permission"), "scopes", "The account's access does not include what PostFlow needs.", ""),
    (("credentials",), "token", "The account's access was withdrawn.", ""),
)


def is_refusal(answer: httpx.Response) -> bool:
    """A page in the place of the server's own words is a proxy's. 422 has no other reason here, since nothing was sent that
    could be wrong: no person stands behind the token (snac says it without a word, Mastodon of an app's own token).
    """
    if answer.status_code == 422 and not answer.content.strip():
        return True
    return answer.status_code in (403, 422) and isinstance(answers.parsed(answer), Mapping)


async def meant(http: httpx.AsyncClient, url: str, headers: Mapping[str, str], answer: httpx.Response) -> Unauthorized:
    """What `answer` of verify_credentials means."""
    if answer.status_code == 422:
        return _error("token", "The account's access was withdrawn.", "", answer)
    try:
        english = await answers.ask(http, "GET", url, headers=headers, params={"lang": "en"})
        answer = english if is_refusal(english) else answer
    except PublishError:
        pass
    said = answers.said(answer)
    for words, code, sentence, next_step in _MEANINGS:
        if any(one in said.lower() for one in words):
            return _error(code, sentence, next_step, answer)
    sentence = (
        f"The server shuts this account out, and says: “{said}”." if said else "The server shuts this account out."
    )
    return _error("shut_out", sentence, "Sign in there and see what it wants, then connect the account again.", answer)


def _error(code: str, sentence: str, next_step: str, answer: httpx.Response) -> Unauthorized:
    return Unauthorized(
        sentence,
        code=code,
        next_step=next_step or "Connect the account again.",
        detail=f"HTTP {answer.status_code} {answers.said(answer)}".strip(),
    )
