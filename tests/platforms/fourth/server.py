"""A small Bluesky server on the sandbox's sockets, faults and ledger: `teach(sandbox)`, then open an instance of it.

A session's token is the app password itself, and a DID the account's number: one switch then ends both, and the ledger
knows the person.
"""

import hashlib
import json
import time
from typing import Any, NoReturn

from sandbox import Sandbox
from sandbox.core import media, model, wire
from sandbox.core.call import Call
from sandbox.core.family import Family, Route
from sandbox.fediverse import connections, statuses, uploads

POST = "app.bsky.feed.post"


def teach(sandbox: Sandbox) -> None:
    sandbox.network.families["bluesky"] = Family(routes=ROUTES, missing=missing, connect=connections.connect)


async def describe(call: Call) -> wire.Response:
    return wire.as_json({"did": f"did:web:{call.instance.domain}", "availableUserDomains": [".example"]})


async def create_session(call: Call) -> wire.Response:
    store, given = call.network.store, call.params
    token = store.tokens.get(given.text("password"))
    account = store.accounts.get(token.account_id or "") if token else None
    if (
        token is None
        or account is None
        or token.revoked
        or given.text("identifier") not in (account.id, account.username)
    ):
        refuse(401, "AuthenticationRequired", "Invalid identifier or password")
    return wire.as_json(
        {"did": account.id, "handle": account.username, "accessJwt": token.id, "refreshJwt": "-", "active": True}
    )


async def upload_blob(call: Call) -> wire.Response:
    me(call)
    mime = call.request.headers.get("content-type", "")
    try:
        seen = media.look(call.request.body)
    except media.NotMedia:
        seen = media.Look("image", mime, 0, 0)
    cid = f"bafkrei{hashlib.sha256(call.request.body).hexdigest()}{time.time_ns()}"
    kept = uploads.keep(call, call.request.body, seen, None, cid)
    ref = {"$type": "blob", "ref": {"$link": kept.id}, "mimeType": mime, "size": kept.size_bytes}
    return wire.as_json({"blob": ref})


async def put_record(call: Call) -> wire.Response:
    """Once under one key, however often."""
    who, given, record = me(call), call.params, call.params.nested("record")
    rkey, text = given.text("rkey"), str(record.get("text", ""))
    if given.text("repo") != who.id or given.text("collection") != POST or len(rkey) != 13:
        refuse(400, "InvalidRequest", "Invalid collection or record key")
    limit = call.profile.max_characters
    if statuses.length(call, "", text) > limit:
        refuse(400, "InvalidRequest", f"Record/text must not be longer than {limit} graphemes")
    images = record.get("embed", {}).get("images", [])
    if len(images) > 4:
        refuse(400, "InvalidRequest", "Record/embed/images must not have more than 4 elements")
    await call.pause()
    known = call.network.store.statuses.get(rkey)
    commit(call, who, rkey, record, known)
    return wire.as_json({"uri": uri(who, rkey), "cid": cid_of(record), "validationStatus": "valid"})


def commit(call: Call, who: model.Account, rkey: str, record: dict[str, Any], known: model.Status | None) -> None:
    store, attached = call.network.store, []
    for image in record.get("embed", {}).get("images", []):
        upload = store.uploads.get(image["image"]["ref"]["$link"])
        if upload is None or upload.account_id != who.id:
            refuse(400, "BlobNotFound", "Could not find blob")
        upload.description = image["alt"]
        attached.append(upload.id)
    if known is not None:
        return
    parent = record.get("reply", {}).get("parent", {}).get("uri", "").rpartition("/")[2]
    made = model.Status(
        id=rkey, instance=call.instance.name, account_id=who.id, created_at=call.now, committed_ns=0,
        text=str(record["text"]), language=(record.get("langs") or [None])[0], in_reply_to_id=parent or None,
        sensitive="labels" in record, media_ids=attached, details={"record": record},
    )  # fmt: skip
    statuses.commit(call, made)


async def get_record(call: Call) -> wire.Response:
    who = call.network.store.accounts.get(call.params.text("repo"))
    found = call.network.store.statuses.get(call.params.text("rkey"))
    if who is None or found is None or found.account_id != who.id or found.deleted_at is not None:
        refuse(400, "RecordNotFound", f"Could not locate record: {call.params.text('rkey')}")
    record = found.details["record"]
    return wire.as_json({"uri": uri(who, found.id), "cid": cid_of(record), "value": record})


async def missing(call: Call) -> wire.Response:
    return wire.as_json({"error": "MethodNotImplemented", "message": "Method Not Implemented"}, 501)


def me(call: Call) -> model.Account:
    if call.account is None or call.token is None or call.token.revoked:
        refuse(401, "AuthMissing", "Authentication Required")
    return call.account


def refuse(status: int, error: str, message: str) -> NoReturn:
    raise wire.Answer(wire.as_json({"error": error, "message": message}, status))


def uri(who: model.Account, rkey: str) -> str:
    return f"at://{who.id}/{POST}/{rkey}"


def cid_of(record: dict[str, Any]) -> str:
    return "bafyrei" + hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


ROUTES: list[Route] = [
    ("GET", r"/xrpc/com\.atproto\.server\.describeServer", describe),
    ("POST", r"/xrpc/com\.atproto\.server\.createSession", create_session),
    ("POST", r"/xrpc/com\.atproto\.repo\.uploadBlob", upload_blob),
    ("POST", r"/xrpc/com\.atproto\.repo\.putRecord", put_record),
    ("GET", r"/xrpc/com\.atproto\.repo\.getRecord", get_record),
]
