"""The users and sessions tables: people, their passwords, and where they are signed in.

A session is a row, so signing out elsewhere and changing the password end it at once. Of its token only the hash
is kept.
"""

import hashlib
import secrets
from datetime import timedelta
from typing import LiteralString

import argon2
import psycopg
from psycopg import Connection
from psycopg.rows import class_row

from postflow.errors import Conflict, Invalid
from postflow.models import User

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 256  # hashing megabytes would be a way to keep us busy

_COLUMNS: LiteralString = "users.id, users.email, users.display_name, users.time_zone, users.is_owner, users.created_at"
_hasher = argon2.PasswordHasher()
#: Checked when there is no such person, so that the answer takes as long.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$4A3RNlJV6OcgypxWMQXZXw$xbGXDWEsZUikMMHmSCbxTZAuswzVJszstE2yU0aG2p0"


# -- people ------------------------------------------------------------------------------------------------


def any_yet(conn: Connection) -> bool:
    row = conn.execute("SELECT EXISTS (SELECT FROM users)").fetchone()
    return bool(row and row[0])


def create_owner(
    conn: Connection, email: str, password: str, *, display_name: str = "", time_zone: str = "UTC"
) -> User:
    """The first person. Raises Invalid; Conflict when there is an owner already."""
    return _create(conn, email, password, display_name, time_zone, is_owner=True)


def create(conn: Connection, email: str, password: str, *, display_name: str = "", time_zone: str = "UTC") -> User:
    """Raises Invalid, with a sentence per field."""
    return _create(conn, email, password, display_name, time_zone, is_owner=False)


def _create(conn: Connection, email: str, password: str, display_name: str, time_zone: str, *, is_owner: bool) -> User:
    email = normal_email(email)
    said = {**email_problem(email), **password_problem(password)}
    if said:
        raise Invalid(said)
    query: LiteralString = (
        """
        INSERT INTO users (email, password_hash, display_name, time_zone, is_owner)
        VALUES (%(email)s, %(password_hash)s, %(display_name)s, %(time_zone)s, %(is_owner)s) RETURNING """
        + _COLUMNS
    )
    row = {
        "email": email,
        "password_hash": _hasher.hash(password),
        "display_name": display_name.strip()[:80],
        "time_zone": time_zone,
        "is_owner": is_owner,
    }
    try:
        with conn.cursor(row_factory=class_row(User)) as cursor:
            made = cursor.execute(query, row).fetchone()
    except psycopg.errors.UniqueViolation as clash:
        if clash.diag.constraint_name == "users_one_owner":
            raise Conflict("PostFlow has an owner already. Sign in instead.") from None
        raise Invalid({"email": "Somebody has an account with this address already."}) from None
    if made is None:
        raise psycopg.DataError("an insert returned nothing")
    return made


def by_email(conn: Connection, email: str) -> User | None:
    query: LiteralString = "SELECT " + _COLUMNS + " FROM users WHERE email = %(email)s"
    with conn.cursor(row_factory=class_row(User)) as cursor:
        return cursor.execute(query, {"email": normal_email(email)}).fetchone()


def update_profile(conn: Connection, user_id: int, *, display_name: str, time_zone: str) -> None:
    conn.execute(
        "UPDATE users SET display_name = %(display_name)s, time_zone = %(time_zone)s WHERE id = %(id)s",
        {"id": user_id, "display_name": display_name.strip()[:80], "time_zone": time_zone},
    )


def normal_email(email: str) -> str:
    return email.strip().lower()


def email_problem(email: str) -> dict[str, str]:
    name, at, host = email.partition("@")
    if not name or not at or not host or any(one.isspace() for one in email) or len(email) > 254 or "\0" in email:
        return {"email": "Type an e-mail address, such as ada@example.org."}
    return {}


# -- passwords ---------------------------------------------------------------------------------------------


def password_problem(password: str, field: str = "password") -> dict[str, str]:
    if len(password) < SHORTEST_PASSWORD:
        return {field: f"Take at least {SHORTEST_PASSWORD} characters; four or five words are good."}
    if len(password) > LONGEST_PASSWORD:
        return {field: f"Take at most {LONGEST_PASSWORD} characters."}
    return {}


def authenticate(conn: Connection, email: str, password: str) -> User | None:
    """None for a wrong password and for nobody by that address, after the same time."""
    row = conn.execute(
        "SELECT password_hash FROM users WHERE email = %(email)s", {"email": normal_email(email)}
    ).fetchone()
    if not _fits(row[0] if row else _NOBODY, password) or row is None:
        return None
    if _hasher.check_needs_rehash(row[0]):
        conn.execute(
            "UPDATE users SET password_hash = %(hash)s WHERE email = %(email)s",
            {"email": normal_email(email), "hash": _hasher.hash(password)},
        )
    return by_email(conn, email)


def change_password(conn: Connection, user_id: int, old: str, new: str) -> None:
    """Raises Invalid. Ending the other sessions is the caller's next line."""
    row = conn.execute("SELECT password_hash FROM users WHERE id = %(id)s", {"id": user_id}).fetchone()
    if row is None or not _fits(row[0], old):
        raise Invalid({"old_password": "This is not your present password."})
    if said := password_problem(new, "new_password"):
        raise Invalid(said)
    conn.execute(
        "UPDATE users SET password_hash = %(hash)s WHERE id = %(id)s", {"id": user_id, "hash": _hasher.hash(new)}
    )


def _fits(stored: str, password: str) -> bool:
    try:
        return len(password) <= LONGEST_PASSWORD and _hasher.verify(stored, password)
    except argon2.exceptions.VerifyMismatchError:
        return False


# -- sessions ----------------------------------------------------------------------------------------------


def open_session(conn: Connection, user_id: int, user_agent: str, life: timedelta) -> str:
    """The token for the cookie; it is nowhere else."""
    token = secrets.token_urlsafe(32)
    conn.execute(
        """
        INSERT INTO sessions (token_hash, user_id, user_agent, expires_at)
        VALUES (%(hash)s, %(user_id)s, %(user_agent)s, now() + %(life)s)
        """,
        {
            "hash": _hash(token),
            "user_id": user_id,
            "user_agent": user_agent.replace("\0", "")[:200],
            "life": life,
        },
    )
    return token


def by_session(conn: Connection, token: str) -> User | None:
    """Who is signed in with this token. Notes at most once a minute that the session is in use."""
    query: LiteralString = (
        """
        WITH seen AS (UPDATE sessions SET last_seen_at = now()
                       WHERE token_hash = %(hash)s AND expires_at > now()
                         AND last_seen_at < now() - interval '1 minute')
        SELECT """
        + _COLUMNS
        + """ FROM sessions JOIN users ON users.id = sessions.user_id
         WHERE token_hash = %(hash)s AND expires_at > now()
        """
    )
    with conn.cursor(row_factory=class_row(User)) as cursor:
        return cursor.execute(query, {"hash": _hash(token)}).fetchone()


def close_session(conn: Connection, token: str) -> None:
    conn.execute("DELETE FROM sessions WHERE token_hash = %(hash)s", {"hash": _hash(token)})


def close_other_sessions(conn: Connection, user_id: int, token: str) -> int:
    """How many were signed out."""
    return conn.execute(
        "DELETE FROM sessions WHERE user_id = %(user_id)s AND token_hash <> %(hash)s",
        {"user_id": user_id, "hash": _hash(token)},
    ).rowcount


def other_sessions(conn: Connection, user_id: int, token: str) -> int:
    row = conn.execute(
        "SELECT count(*) FROM sessions WHERE user_id = %(user_id)s AND token_hash <> %(hash)s AND expires_at > now()",
        {"user_id": user_id, "hash": _hash(token)},
    ).fetchone()
    return row[0] if row else 0


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
