"""Reading statuses back: who may see which, paging as Mastodon pages, deleting."""

import email.utils
import urllib.parse

from sandbox.core import model, wire
from sandbox.core.call import Call
from sandbox.fediverse import entities


def visible(call: Call, key: str) -> model.Status | None:
    """A status this caller may see."""
    found = _living(call, key)
    if found is None:
        return None
    mine = call.account is not None and call.account.id == found.account_id and not _dead(call)
    return found if mine or found.visibility in ("public", "unlisted") else None


def own(call: Call, key: str) -> model.Status | None:
    """A status of the caller's own."""
    found = _living(call, key)
    return found if found and call.account and found.account_id == call.account.id else None


def delete(call: Call, found: model.Status, free_media: bool = True) -> None:
    """Take it down; its pictures become attachable again unless they go too."""
    store = call.network.store
    found.deleted_at = call.now
    store.keep(found)
    for key in found.media_ids:
        upload = store.uploads[key]
        upload.status_id = None if free_media else upload.status_id
        upload.created_at = call.now if free_media else upload.created_at
        upload.deleted = not free_media
        store.keep(upload)


def listing(call: Call, who: model.Account, default: int, most: int) -> wire.Response:
    """Newest first, with Link headers. min_id pages upwards from the anchor, since_id shows the newest above
    it.
    """
    page = _page(call, _seen(call, who), min(max(call.params.number("limit", default), 1), most))
    links = [("Date", email.utils.formatdate(call.now, usegmt=True))]
    if page:
        older, newer = _link(call, "max_id", page[-1].id), _link(call, "min_id", page[0].id)
        links.append(("Link", f'<{older}>; rel="next", <{newer}>; rel="prev"'))
    return wire.as_json([entities.status(call, one) for one in page], headers=links)


def _seen(call: Call, who: model.Account) -> list[model.Status]:
    """What this caller sees of that person, oldest first, filtered as asked."""
    given = call.params
    if given.flag("pinned"):
        return []
    mine = call.account is not None and call.account.id == who.id and call.profile.lists == "all"
    return [
        one
        for one in call.network.store.by_account.get(who.id, [])
        if one.deleted_at is None
        and one.hidden is None
        and (mine or one.visibility in ("public", "unlisted"))
        and not (given.flag("only_media") and not one.media_ids)
        and not (given.flag("exclude_replies") and one.in_reply_to_id)
        and not (given.flag("exclude_direct") and one.visibility == "direct")
    ]


def _page(call: Call, everything: list[model.Status], limit: int) -> list[model.Status]:
    given = call.params
    above = _order(given.text("min_id") or given.text("since_id"))
    below = _order(given.text("max_id") if call.profile.pages else "")
    within = [
        one
        for one in everything
        if (not above[1] or _order(one.id) > above) and (not below[1] or _order(one.id) < below)
    ]
    chosen = within[:limit] if given.text("min_id") else within[-limit:]
    return chosen[::-1]


def _order(key: str) -> tuple[int, str]:
    return len(key), key


def _link(call: Call, name: str, key: str) -> str:
    kept = {n: v for n, v in call.params.values.items() if n not in ("max_id", "min_id", "since_id", "access_token")}
    return call.url(call.request.path) + "?" + urllib.parse.urlencode({**kept, name: key}, doseq=True)


def _living(call: Call, key: str) -> model.Status | None:
    known = call.network.store.statuses
    found = known.get(key)
    if found is None and call.profile.ids == "snac":  # only the MD5 behind the first ten characters counts
        found = next((one for one in known.values() if one.id[10:] == key[10:] and "stamp" in one.details), None)
    if found is None or found.instance != call.instance.name:
        return None
    return found if found.deleted_at is None and found.hidden in (None, "mixed") else None


def _dead(call: Call) -> bool:
    token = call.token
    return token is None or token.is_dead(call.now)
