"""A network in a box: one small server that speaks Mastodon, Pixelfed, GoToSocial and the Instagram Graph API over real HTTP.

For trying the app, for tests, chaos and benchmarks. It imports nothing of postflow, web or worker; see docs/sandbox.md.

server      Sandbox: start, stop, one port per instance, the Python API          __main__   `python -m sandbox`
network     all state, and the way of each request from the wire to the ledger   instance   Instance, Call, rate limits
wire        HTTP/1.1 on raw sockets: answers that are late, cut or never come    params     query, form, multipart, JSON
software    what each server software and version does: limits, idempotency      clock      the adjustable clock
faults      the switches         misbehave   what they do to one request         ledger     what happened, for tests to ask
control     the switches over HTTP               accounts    connected accounts in one line
oauth       fediverse logins     limits      nodeinfo and instance documents     entities   JSON shapes of the Mastodon family
mastodon    its API              statuses    making a status, idempotency        uploads    media      timeline  reading back
texts       localised errors     pixelfed    its API and quirks                  gotosocial its API and quirks
instagram   the Graph API        containers  media containers and their states   graph      errors, tokens, paging
graph_login both ways in         pages       consent, timelines, index           files      css, avatars, pictures
model       the records          store       memory and SQLite                   media      looking into files     links  addresses
"""

from sandbox.accounts import Credentials
from sandbox.instance import Instance
from sandbox.server import Sandbox

__all__ = ["Credentials", "Instance", "Sandbox"]
