"""A network in a box: Mastodon, Pixelfed, GoToSocial and Instagram over real HTTP, in one small server.

For trying the app, for tests, chaos and benchmarks. Imports nothing of postflow, web or worker.
docs/sandbox.md has the switches and both APIs. Upper rooms use lower ones:

server      Sandbox: start, stop, one port per instance, the Python API      __main__   `python -m sandbox`
registry    the networks there are, one line each
control     the same over HTTP, beside   mastodon pixelfed gotosocial instagram   one room per network
fediverse   what those with Mastodon's API share
core        what all of them share, without knowing any
faults      the switches
"""

from sandbox.core.accounts import Credentials
from sandbox.core.instance import Instance
from sandbox.server import Sandbox

__all__ = ["Credentials", "Instance", "Sandbox"]
