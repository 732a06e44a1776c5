"""Ten uploads at once at a real gunicorn that may use 512 MB, which the kernel counts: it lives and takes the honest one."""

import io
import os
import re
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator

import httpx
import psycopg
import pytest
from cryptography.fernet import Fernet
from PIL import Image

from postflow import users
from tests.patience import PATIENCE_S
from tests.postflow.test_pictures import saved, whole_png
from tests.postflow.test_uploads import box, mp4
from tests.web.conftest import PASSWORD

MAY_USE = 512 * 1024 * 1024


@pytest.fixture
def served(database_url: str) -> Iterator[str]:
    """The address of one web process under the limit."""
    environment = {
        **os.environ, "DATABASE_URL": database_url, "POSTFLOW_SECRET_KEY": "k" * 40,
        "POSTFLOW_ENCRYPTION_KEYS": Fernet.generate_key().decode(), "PORT": "0", "WEB_CONCURRENCY": "1",
        "POSTFLOW_PUBLIC_URL": "http://127.0.0.1",
    }  # fmt: skip
    command = [sys.executable, "-m", "gunicorn", "--config", "python:web.gunicorn", "web.app:create_app()"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    resource.prlimit(server.pid, resource.RLIMIT_DATA, (MAY_USE, MAY_USE))
    try:
        assert server.stderr
        while not (found := re.search(r"Listening at: http://0.0.0.0:(\d+)", server.stderr.readline())):
            pass
        reading = threading.Thread(target=server.stderr.read)
        reading.start()
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        server.terminate()
        server.wait(PATIENCE_S)
        reading.join()
        server.stderr.close()


def layers() -> bytes:
    whole = saved(Image.effect_noise((2000, 1500), 50), "JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:last] + whole[last : last + 2000] * 400 + whole[end:]


def test_nine_are_refused_in_words_and_the_honest_one_is_taken(served: str, db: psycopg.Connection) -> None:
    users.create_owner(db, "ada@example.org", PASSWORD)
    honest = saved(Image.effect_noise((3000, 2000), 60).resize((6000, 4000)).convert("RGB"), "JPEG")
    hostile = [whole_png(12_000, 9_900), layers(), saved(Image.new("RGBA", (4600, 4600)), "PNG")] * 3
    told: list[tuple[int, str]] = []
    with httpx.Client(base_url=served, timeout=PATIENCE_S, trust_env=False, follow_redirects=True) as ada:

        def token() -> str:
            return re.findall(r'"X-CSRFToken": "([^"]+)"', ada.get("/profile").text)[0]

        def send(data: bytes) -> httpx.Response:
            return ada.post("/media", files={"file": ("sea.jpg", io.BytesIO(data))}, headers={"X-CSRFToken": csrf})

        ada.post("/sign-in", data={"email": "ada@example.org", "password": PASSWORD, "csrf_token": token()})
        csrf = token()
        at_once = [
            threading.Thread(target=lambda data=data: told.append(((answer := send(data)).status_code, answer.text)))
            for data in (*hostile, honest)
        ]
        for one in at_once:
            one.start()
        for one in at_once:
            one.join()
        assert sorted(status for status, _ in told) == [201] + [422] * 9, told
        assert all("cannot be used: " in said for status, said in told if status == 422)
        assert ada.get("/healthz").status_code == 200
        clip = mp4() + box(b"mdat", bytes(60 * 1024 * 1024))
        videos = [threading.Thread(target=lambda: told.append((send(clip).status_code, ""))) for _ in range(3)]
        for one in videos:
            one.start()
        for one in videos:
            one.join()
        assert [status for status, _ in told[-3:]] == [201] * 3
    assert db.execute("SELECT length(data) FROM media_files WHERE mime = 'video/mp4'").fetchall() == [(len(clip),)] * 3
