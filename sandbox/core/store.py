"""Where the records live: dictionaries in memory, written through to SQLite when a file was named."""

import dataclasses
import json
import secrets
import sqlite3
from collections import OrderedDict
from typing import Any

from sandbox.core import model
from sandbox.core.clock import Clock

KINDS: dict[str, type[Any]] = {
    "app": model.App,
    "account": model.Account,
    "code": model.Code,
    "token": model.Token,
    "upload": model.Upload,
    "status": model.Status,
    "remembered": model.Remembered,
    "container": model.Container,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


class Store:
    """Every record by kind and id, plus the pictures' bytes.

    keep_pictures bounds how many pictures stay in memory (hashes and sizes always stay); with a file all
    are kept there.
    """

    def __init__(self, clock: Clock, path: str | None = None, keep_pictures: int = 500) -> None:
        self.clock = clock
        self.apps: dict[str, model.App] = {}
        self.accounts: dict[str, model.Account] = {}
        self.codes: dict[str, model.Code] = {}
        self.tokens: dict[str, model.Token] = {}
        self.uploads: dict[str, model.Upload] = {}
        self.statuses: dict[str, model.Status] = {}
        self.remembered: dict[str, model.Remembered] = {}
        self.containers: dict[str, model.Container] = {}
        self.by_account: dict[str, list[model.Status]] = {}
        self.by_refresh: dict[str, str] = {}
        self._tables: dict[type[Any], dict[str, Any]] = {
            model.App: self.apps,
            model.Account: self.accounts,
            model.Code: self.codes,
            model.Token: self.tokens,
            model.Upload: self.uploads,
            model.Status: self.statuses,
            model.Remembered: self.remembered,
            model.Container: self.containers,
        }
        self._pictures: OrderedDict[str, bytes] = OrderedDict()
        self._keep_pictures = keep_pictures
        self._last_id = 0
        self._last_second = 0
        self._small_id = 100
        self._file = _open(path) if path else None
        self._dirty = False
        if self._file:
            self._load(self._file)

    def keep(self, record: model.Record) -> None:
        """Add or update one record."""
        table = self._tables[type(record)]
        fresh = record.id not in table
        table[record.id] = record
        self._index(record, fresh)
        if self._file:
            row = (_NAMES[type(record)], record.id, json.dumps(dataclasses.asdict(record)))
            self._file.execute("INSERT OR REPLACE INTO record (kind, id, body) VALUES (?, ?, ?)", row)
            self._dirty = True

    def keep_picture(self, sha256: str, body: bytes) -> None:
        """Keep the bytes of a media file, dropping the oldest when memory is bounded."""
        if self._file:
            self._file.execute("INSERT OR IGNORE INTO picture (sha256, body) VALUES (?, ?)", (sha256, body))
            self._dirty = True
            return
        self._pictures[sha256] = body
        while len(self._pictures) > self._keep_pictures:
            self._pictures.popitem(last=False)

    def picture(self, sha256: str) -> bytes | None:
        """The bytes of a media file, or None when they were let go."""
        if self._file:
            row = self._file.execute("SELECT body FROM picture WHERE sha256 = ?", (sha256,)).fetchone()
            return row[0] if row else None
        return self._pictures.get(sha256)

    def age(self, seconds: int) -> None:
        """Every instant that is kept lies so much further back."""
        for table in self._tables.values():
            for record in table.values():
                model.age(record, seconds)
                self.keep(record)
        self.flush()

    def flush(self) -> None:
        """Commit what changed; called once per request."""
        if self._file and self._dirty:
            self._file.execute(
                "INSERT OR REPLACE INTO record (kind, id, body) VALUES ('clock', 'offset', ?)",
                (json.dumps(self.clock.offset_s),),
            )
            self._file.commit()
            self._dirty = False

    def close(self) -> None:
        """Commit and let go of the file."""
        if self._file:
            self._dirty = True
            self.flush()
            self._file.close()
            self._file = None

    def snowflake(self) -> str:
        """A fresh 18-digit id, ever growing, with the time in its upper bits."""
        self._last_id = max(int(self.clock.now() * 1000) << 16, self._last_id + 1)
        return str(self._last_id)

    def second(self) -> int:
        """This second, or the one after the last that was given out."""
        self._last_second = max(int(self.clock.now()), self._last_second + 1)
        return self._last_second

    def ulid(self) -> str:
        """A fresh 26-character ULID, ever growing."""
        alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        number = int(self.snowflake())
        value = ((number >> 16) << 80) | ((number & 0xFFFF) << 64) | secrets.randbits(64)
        return "".join(alphabet[(value >> shift) & 31] for shift in range(125, -1, -5))

    def small_id(self) -> str:
        """A fresh short number, as Pixelfed gives media and Mastodon gives apps."""
        self._small_id += 1
        return str(self._small_id)

    def graph_id(self, prefix: str) -> str:
        """A fresh 17-digit id as the Graph API gives them; prefix is three digits, say 179 for containers."""
        return f"{prefix}{int(self.small_id()):014d}"

    def _index(self, record: model.Record, fresh: bool) -> None:
        if isinstance(record, model.Status) and fresh:
            self.by_account.setdefault(record.account_id, []).append(record)
        elif isinstance(record, model.Token) and record.refresh_token:
            self.by_refresh[record.refresh_token] = record.id

    def _load(self, file: sqlite3.Connection) -> None:
        for kind, _key, body in file.execute("SELECT kind, id, body FROM record ORDER BY rowid"):
            if kind == "clock":
                self.clock.offset_s = json.loads(body)
            elif kind in KINDS:
                record = KINDS[kind](**json.loads(body))
                self._tables[KINDS[kind]][record.id] = record
                self._index(record, True)
                self._remember_number(record.id)
        for statuses in self.by_account.values():
            statuses.sort(key=lambda status: status.committed_ns)

    def _remember_number(self, key: str) -> None:
        if key.isdigit() and len(key) == 18:
            self._last_id = max(self._last_id, int(key))
        elif key.isdigit() and len(key) == 17:
            self._small_id = max(self._small_id, int(key[3:]))
        elif key.isdigit() and len(key) < 9:
            self._small_id = max(self._small_id, int(key))


def _open(path: str) -> sqlite3.Connection:
    file = sqlite3.connect(path, check_same_thread=False)
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = NORMAL")
    file.execute("CREATE TABLE IF NOT EXISTS record (kind TEXT, id TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, id))")
    file.execute("CREATE TABLE IF NOT EXISTS picture (sha256 TEXT PRIMARY KEY, body BLOB NOT NULL)")
    file.commit()
    return file
