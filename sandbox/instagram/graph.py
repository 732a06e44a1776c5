"""What all Graph API answers have in common: the error shape, the token check, field selection, usage
headers.
"""

import hmac
import json
from typing import Any, NoReturn

from sandbox.core import model, wire
from sandbox.core.call import Call
from sandbox.core.clock import iso_graph
from sandbox.faults.switches import Fault

DAY_S = 86400
_GONE = (
    "Unsupported {} request. Object with ID '{}' does not exist, cannot be loaded due to missing "
    "permissions, or does not support this operation. Please read the Graph API documentation."
)


def refuse(code: int, subcode: int | None, text: str, status: int = 400, transient: bool = False) -> NoReturn:
    """Stop with a Graph API error."""
    raise wire.Answer(wire.as_json(error_body(code, subcode, text, transient), status))


def error_body(code: int, subcode: int | None, text: str, transient: bool = False) -> dict[str, object]:
    """`{"error": {...}}` as the Graph API shapes it."""
    error: dict[str, object] = {"message": text, "type": "OAuthException", "code": code}
    if subcode is not None:
        error["error_subcode"] = subcode
    error |= {"is_transient": transient, "error_user_title": "Sandbox", "error_user_msg": text}
    return {"error": {**error, "fbtrace_id": "AsandboxTrace00000000000"}}


def failed(call: Call, fault: Fault) -> wire.Response:
    """What the switch `graph_error` answers."""
    body = error_body(
        int(fault.option("code", 1)),
        fault.option("subcode"),
        fault.option("text", "An unknown error has occurred."),
        bool(fault.option("transient", False)),
    )
    return wire.as_json(body, int(fault.option("status", 400)))


def limited(call: Call, fault: Fault, seconds: float) -> wire.Response:
    """Meta's limits come as 400 or 403 with a code; a usage header says when calls work again."""
    code = int(fault.option("code", 80002))
    body = error_body(code, fault.option("subcode"), f"(#{code}) Application request limit reached")
    account = call.account.id if call.account else "0"
    usage = {"type": "instagram", "call_count": 100, "total_cputime": 25, "total_time": 25}
    usage["estimated_time_to_regain_access"] = max(round(seconds / 60), 1)
    headers = [("X-Business-Use-Case-Usage", json.dumps({account: [usage]}))]
    headers.append(("X-App-Usage", json.dumps({"call_count": 100, "total_cputime": 25, "total_time": 25})))
    return wire.as_json(body, int(fault.option("status", 400)), headers)


def gone(call: Call, key: str) -> NoReturn:
    """100/33: there is no such thing, or you may not see it; they do not tell which."""
    refuse(100, 33, _GONE.format(call.request.method.lower(), key))


def check_token(call: Call, permission: str | None = None) -> model.Token:
    """The caller's living token; 190 with subcode 463 when expired, 467 when revoked or unknown, 10 without
    permission.
    """
    token = call.token
    add_usage(call)
    if token is None:
        if call.params.text("access_token") or call.request.headers.get("authorization"):
            refuse(190, None, "Invalid OAuth access token - Cannot parse access token")
        refuse(104, None, "An access token is required to request this resource.")
    if token.revoked:
        refuse(190, 460, "Error validating access token: The session has been invalidated.")
    if token.expires_at is not None and token.expires_at <= call.now:
        when = iso_graph(token.expires_at)
        refuse(190, 463, f"Error validating access token: Session has expired on {when}.")
    _check_proof(call, token)
    if permission:
        check_permission(call, token, permission)
    return token


def _check_proof(call: Call, token: model.Token) -> None:
    """appsecret_proof is optional; a wrong one is refused."""
    proof = call.params.text("appsecret_proof")
    secret = call.profile.facebook_app_secret if token.client_id == call.profile.facebook_app_id else None
    secret = secret or call.profile.app_secret
    if proof and proof != hmac.digest(secret.encode(), token.id.encode(), "sha256").hex():
        refuse(100, None, "Invalid appsecret_proof provided in the API argument")


def check_permission(call: Call, token: model.Token, permission: str) -> None:
    """Error 10 when the person did not grant it."""
    if call.fault("permission_missing") or permission not in token.scopes:
        refuse(10, None, "(#10) Application does not have permission for this action", 403)


def add_usage(call: Call) -> None:
    """X-App-Usage and X-Business-Use-Case-Usage; a `usage` switch sets percent and regain_minutes."""
    fault = call.fault("usage")
    percent = int(fault.option("percent", 90)) if fault else 1
    app = {"call_count": percent, "total_cputime": percent // 2, "total_time": percent // 2}
    regain = int(fault.option("regain_minutes", 0)) if fault else 0
    case = {"type": "instagram", **app, "estimated_time_to_regain_access": regain}
    account = call.account.id if call.account else "0"
    call.headers.append(("X-App-Usage", json.dumps(app)))
    call.headers.append(("X-Business-Use-Case-Usage", json.dumps({account: [case]})))


def account_of(call: Call, token: model.Token, key: str) -> model.Account:
    """The professional account `key`, when this token reaches it; `me` is the token's own."""
    if key == "me" and token.account_id:
        key = token.account_id
    found = call.network.store.accounts.get(key)
    if found is None or found.instance != call.instance.name or key not in token.account_ids:
        gone(call, key)
    call.account = found
    return found


def fields(call: Call, default: str) -> list[str]:
    """Top-level names of the `fields` parameter: `id,children{id}` -> ["id", "children"]."""
    names, depth, name = [], 0, ""
    for letter in call.params.text("fields") or default:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            names.append(name)
            name = ""
        elif depth == 0 and letter not in "{}":
            name += letter
    return [part.partition(".")[0].strip() for part in [*names, name] if part.strip()]


def select(call: Call, everything: dict[str, Any], default: str) -> dict[str, Any]:
    """The asked fields that have a value, always with the id; unknown fields are error 100."""
    chosen: dict[str, Any] = {}
    for name in fields(call, default):
        if name not in everything:
            refuse(100, None, f"(#100) Tried accessing nonexisting field ({name})")
        if everything[name] is not None:
            chosen[name] = everything[name]
    return chosen | {"id": everything["id"]}


def page_of(call: Call, entries: list[dict[str, Any]]) -> wire.Response:
    """`{"data": [...], "paging": {"cursors": {...}, "next"?}}`, cut by `limit` and `after`."""
    limit, after = call.params.number("limit", 25), call.params.number("after", 0)
    shown = entries[after : after + limit]
    paging: dict[str, Any] = {"cursors": {"before": str(after), "after": str(after + len(shown))}}
    if after + limit < len(entries):
        paging["next"] = call.url(f"{call.request.path}?limit={limit}&after={after + limit}")
    return wire.as_json({"data": shown, "paging": paging} if shown else {"data": []})
