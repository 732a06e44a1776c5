"""A network in a box: Mastodon, Pixelfed, GoToSocial and Instagram over real HTTP, in one small server.

For trying the app, for tests, chaos and benchmarks. Imports nothing of postflow, web or worker.
docs/sandbox.md has the switches and both APIs.

server       Sandbox: start, stop, one port per instance, the Python API
__main__     `python -m sandbox`
network      all state, and the way of each request from the wire to the ledger
instance     Instance, Call (a request being answered), rate limits
wire         HTTP/1.1 on raw sockets: answers that are late, cut short or never come
params       query, form, multipart and JSON as one thing
software     Profile: all that can differ between servers; profiles: what each software and version usually does
clock        the adjustable clock
model        the records
store        where they live: memory, or SQLite

faults       the switches
misbehave    what a switch does to one request
ledger       what happened, for tests to ask
accounts     connected accounts in one line
control      all of that over HTTP

oauth        fediverse logins: registration, consent, codes
grants       the tokens behind them
limits       nodeinfo and instance documents
entities     JSON shapes of the Mastodon family
mastodon     Mastodon's API; statuses (making one), repeats (of it), uploads, timeline (reading back), texts (other languages)
pixelfed     Pixelfed's API and quirks; pixelfed_posts (making one)
gotosocial   GoToSocial's API and quirks
instagram    the Graph API; containers (media on their way), graph (errors, paging), graph_login and
             facebook_login (the two ways in)

pages        consent, timelines, index
files        style sheet, avatars, pictures
media        looking into files
links        addresses
"""

from sandbox.core.accounts import Credentials
from sandbox.core.instance import Instance
from sandbox.server import Sandbox

__all__ = ["Credentials", "Instance", "Sandbox"]
