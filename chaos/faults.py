"""What networks, and what stands in front of them, do to single requests: switches of the sandbox (docs/sandbox.md)."""

from typing import Any

#: A gateway that answers for a dead server with a page of its own, and success.
PAGE = "<!doctype html><title>Back soon</title><p>We are at work on it."


def faults() -> list[dict[str, Any]]:
    """Each tosses its own coin at every request it fits.

    Requests that publish suffer most, and in every way that leaves the outcome open. Those that come `slow` before anything
    is done, or are `held` on the way, land after the worker has given up (5 s) and looked once (2 s later): some seconds
    later, a minute later (when it would be sent again), or in the same instant as the account's next.
    """
    commit = {"method": "POST", "path": r"/statuses$|/media_publish$"}
    fediverse = {"method": "POST", "path": r"/statuses$"}
    graph = {"method": "POST", "path": r"/media_publish$"}
    prepare = {"path": r"/media(/|$)|/instance|content_publishing_limit|/\d+$"}
    listing = {"method": "GET", "path": "/statuses"}
    return [
        {"kind": "drop_before", "probability": 0.03, **commit},
        {"kind": "drop_after_commit", "probability": 0.05, **commit},
        {"kind": "cut_body", "probability": 0.03, **commit},
        {"kind": "garbage", "probability": 0.02, **commit},
        {"kind": "answer_without_id", "probability": 0.02, **commit},
        {"kind": "status", "status": 500, "commit": True, "probability": 0.02, **commit},
        {"kind": "status", "status": 502, "commit": False, "probability": 0.03, **commit},
        {"kind": "redirect", "probability": 0.01, **commit},
        {"kind": "status", "status": 404, "body": "json", "probability": 0.02, **commit},
        {"kind": "status", "status": 503, "body": "json", "probability": 0.01, **commit},
        {"kind": "garbage", "text": PAGE, "commit": False, "probability": 0.01, **commit},
        {"kind": "held", "seconds": 10, "probability": 0.01, **commit},
        {"kind": "held", "seconds": 70, "probability": 0.01, **commit},
        {"kind": "held", "with_next": True, "probability": 0.02, **commit},
        {"kind": "media_vanishes", "instance": "mastodon-4.1", "probability": 0.03, **fediverse},
        {"kind": "rate_limit", "style": "mastodon", "seconds": 4, "probability": 0.02, **fediverse},
        {"kind": "rate_limit", "style": "overload", "seconds": 3, "probability": 0.02, **fediverse},
        {"kind": "rate_limit", "style": "http_date", "seconds": 4, "probability": 0.02, **fediverse},
        {"kind": "graph_error", "code": 9007, "subcode": 2207027, "probability": 0.02, **graph},
        {"kind": "graph_error", "code": 2, "transient": True, "status": 500, "probability": 0.02, **graph},
        {"kind": "publish_error_but_live", "probability": 0.03, **graph},
        {"kind": "status_lag", "seconds": 30, "probability": 0.1, **graph},
        {"kind": "slow", "seconds": 0.4, "when": "after", "probability": 0.1, **commit},
        {"kind": "slow", "seconds": 8, "when": "after", "probability": 0.01, **commit},
        {"kind": "slow", "seconds": 12, "when": "before", "probability": 0.01, **commit},
        {"kind": "drop_before", "probability": 0.09, **prepare},
        {"kind": "drop_after_commit", "probability": 0.05, **prepare},
        {"kind": "cut_body", "probability": 0.05, **prepare},
        {"kind": "status", "status": 503, "probability": 0.07, **prepare},
        {"kind": "rate_limit", "style": "retry_after", "seconds": 2, "probability": 0.01, **prepare},
        {"kind": "slow", "seconds": 0.5, "probability": 0.18, **prepare},
        {"kind": "still_processing", "instance": "mastodon", "probability": 0.08},
        {"kind": "still_processing", "instance": "mastodon-4.1", "probability": 0.08},
        {"kind": "status", "status": 502, "probability": 0.07, **listing},
        {"kind": "status", "status": 404, "body": "json", "probability": 0.02, **listing},
        {"kind": "status", "status": 503, "body": "json", "probability": 0.02, **listing},
        {"kind": "garbage", "text": PAGE, "commit": False, "probability": 0.02, **listing},
        {"kind": "drop_before", "probability": 0.06, **listing},
        {"kind": "slow", "seconds": 0.5, "probability": 0.2, **listing},
    ]
