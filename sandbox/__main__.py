"""`python -m sandbox`: run the network until SIGTERM or Ctrl-C."""

import argparse
import signal
import sys
import threading

from sandbox import Sandbox


def main(arguments: list[str] | None = None) -> int:
    """Parse arguments, serve, and leave quickly when told to."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A social network in a box.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8900, help="index and control API; instances take the next ports")
    parser.add_argument("--data", metavar="FILE.sqlite3", help="keep accounts, tokens and statuses across restarts")
    parser.add_argument("--public-host", default="", help="the host name in addresses, when it is not --host")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        sandbox = Sandbox.start(
            port=options.port, host=options.host, data=options.data, public_host=options.public_host
        )
    except OSError as error:
        sys.stderr.write(f"The sandbox could not start: {error}\n")
        return 1
    with sandbox:
        urls = " ".join(f"{one.name}={one.url}" for one in sandbox.network.instances.values())
        sys.stdout.write(f"sandbox listening on {sandbox.control_url} {urls}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
