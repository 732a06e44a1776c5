"""Pictures are decoded where they can do no harm: what a header says is too much is refused unread, what is small is
decoded here, and anything else in a child of its own whose memory and time the kernel bounds. One at a time on a machine,
so that many at once need no more than one.

`python -m postflow.media.decoding` is the child: the picture on standard input, a job of JSON as its argument; it answers
with a line of JSON, and a rendition's bytes behind it.
"""

import contextlib
import fcntl
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from postflow.errors import Invalid
from postflow.media import renditions, uploads
from postflow.media.uploads import Facts
from postflow.media.videos import Source
from postflow.models import MediaKind

#: What a picture of `uploads.MOST_PIXELS` needs to be decoded, turned, converted and encoded; and twice as long as it takes.
MOST_BYTES, MOST_CPU_S = 320 * 1024 * 1024, 20
#: For fewer pixels a child is not worth its start.
FEW_PIXELS = 3_000_000
#: Behind others that are being decoded.
PATIENCE_S = 30.0
_in_turn = threading.Lock()
_TOO_MUCH = "it takes too much memory or time to be opened; save it anew or smaller"
_SELF = [sys.executable, "-m", "postflow.media.decoding"]


class Busy(Invalid):
    """Nothing is known of the picture: no turn came, or a signal ended its child, as a stop of the machine does. It is no
    verdict: another time it may do.
    """


def inspect(source: Source, filename: str) -> Facts:
    """What an upload is, after it was decoded once: what is taken can be rendered. Raises Invalid({"media": sentence})."""
    if uploads.is_video(source):
        return uploads.inspect(source, filename)
    if _pixels(source, filename) <= FEW_PIXELS:
        with _turn(filename):
            return _looked_at(source, filename)
    told, _ = _in_a_child(source, filename, {"do": "inspect", "filename": filename})
    return Facts.model_validate(told)


def render(original: Source, recipe: renditions.Recipe) -> renditions.Rendition:
    """`renditions.render`. Raises Invalid."""
    if _pixels(original, "picture") <= FEW_PIXELS:
        with _turn("picture"):
            return renditions.render(original, recipe)
    told, data = _in_a_child(original, "picture", {"do": "render", "recipe": recipe.model_dump(mode="json")})
    return renditions.Rendition(data=data, **told)


def _looked_at(source: Source, filename: str) -> Facts:
    facts = uploads.inspect(source, filename)
    if facts.kind is MediaKind.image:
        renditions.render(source, renditions.THUMBNAIL, filename)
    return facts


def _pixels(source: Source, filename: str) -> int:
    """As its header says. Raises Invalid for more than is decoded anywhere."""
    with uploads.opened(source, filename) as image:
        return image.width * image.height


# -- in turn -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _turn(filename: str) -> Iterator[None]:
    """Among the threads of this process, and the processes of this machine. The kernel ends a dead one's turn."""
    give_up = time.monotonic() + PATIENCE_S
    if not _in_turn.acquire(timeout=PATIENCE_S):
        raise _too_busy(filename)
    try:
        with _lock_file().open("ab") as lock:
            while not _locked(lock.fileno()):
                if time.monotonic() > give_up:
                    raise _too_busy(filename)
                time.sleep(0.02)
            yield
    finally:
        _in_turn.release()


def _lock_file() -> Path:
    return Path(tempfile.gettempdir()) / f"postflow-decoding-{os.getuid()}"


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _too_busy(filename: str) -> Busy:
    return _busy(filename, "too many large pictures are being looked at; try it again in a moment")


def _busy(filename: str, why: str) -> Busy:
    return Busy(uploads.refused(filename, why).fields)


# -- the child ---------------------------------------------------------------------------------------------------


def _in_a_child(source: Source, filename: str, job: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    with _turn(filename), tempfile.TemporaryFile() as picture:
        picture.write(source)
        picture.seek(0)
        # Each further arena of malloc reserves address space, which is what is bounded.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
        try:
            child = subprocess.run(  # noqa: S603 ourselves
                [*_SELF, json.dumps(job)], stdin=picture, capture_output=True, env=environment, check=False,
                timeout=20 * MOST_CPU_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _too_busy(filename) from None
    head, _, rest = child.stdout.partition(b"\n")
    if child.returncode < 0:
        raise _busy(filename, _TOO_MUCH)
    if child.returncode:
        raise uploads.refused(filename, _TOO_MUCH)
    told = json.loads(head)
    if "refused" in told:
        raise Invalid(told["refused"])
    return told, rest


def _bound() -> None:
    """Beyond what this process has mapped by now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _inspected(job: dict[str, Any], source: Source) -> tuple[dict[str, Any], bytes]:
    return _looked_at(source, job["filename"]).model_dump(mode="json"), b""


def _rendered(job: dict[str, Any], source: Source) -> tuple[dict[str, Any], bytes]:
    made = renditions.render(source, renditions.Recipe.model_validate(job["recipe"]))
    return made.model_dump(mode="json", exclude={"data"}), made.data


_JOBS: dict[str, Callable[[dict[str, Any], Source], tuple[dict[str, Any], bytes]]] = {
    "inspect": _inspected,
    "render": _rendered,
}


def main() -> None:
    job = json.loads(sys.argv[1])
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what is logged is no part of the answer
    picture = uploads.held(sys.stdin.buffer)
    _bound()
    try:
        told, data = _JOBS[job["do"]](job, picture)
    except Invalid as wrong:
        told, data = {"refused": wrong.fields}, b""
    with out:
        out.write(json.dumps(told).encode() + b"\n" + data)


if __name__ == "__main__":
    main()
