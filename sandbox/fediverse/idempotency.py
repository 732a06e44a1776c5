"""Idempotency-Keys: what a server remembers of one, what a repeat gets, and the lock newer Mastodons take."""

import asyncio

from sandbox.core import model, wire
from sandbox.core.call import Call
from sandbox.fediverse import entities


def recall(call: Call, author: model.Account, key: str | None) -> wire.Response | None:
    """The answer to a repeated Idempotency-Key, or None when the work is to be done."""
    store, mode = call.network.store, call.profile.idempotency
    known = store.remembered.get(f"{call.instance.name}:{author.id}:{key}") if key else None
    if known is None or mode == "none" or known.at + call.profile.idempotency_ttl_s <= call.now:
        return None
    if mode == "bug500":
        return wire.as_json({"status": 500, "error": "Internal Server Error"}, 500)
    if mode == "tripwire":
        return wire.as_json({"error": "Duplicate idempotency key."}, 400)
    if mode == "cached":
        headers = [("Idempotent-Replayed", "true")]
        return wire.Response(known.answer_status, known.answer_body.encode(), headers=headers)
    original = store.statuses.get(known.status_id or "")
    if original is None or original.deleted_at is not None:
        return wire.as_json({"error": "Record not found"}, 404)
    return wire.as_json(entities.status(call, original))


def remember(call: Call, author: model.Account, key: str | None, **what: object) -> None:
    """Keep the key for as long as this software does."""
    if key and call.profile.idempotency != "none":
        number = f"{call.instance.name}:{author.id}:{key}"
        call.network.store.keep(model.Remembered(id=number, at=call.now, **what))  # type: ignore[arg-type]


async def take_lock(call: Call, lock: str) -> None:
    """4.6 and newer: the second request with a key waits for the first, then gives up with 503."""
    tries = max(int(call.profile.lock_wait_s / 0.02), 1)
    for _ in range(tries):
        if lock not in call.instance.locks:
            call.instance.locks.add(lock)
            return
        await asyncio.sleep(0.02)
    if call.profile.idempotency == "cached":
        raise wire.Answer(wire.as_json({"error": "Request is already in progress"}, 409))
    text = "There was a temporary problem serving your request, please try again"
    raise wire.Answer(wire.as_json({"error": text}, 503))
