"""Tokens at rest: sealed with the newest key, opened with any of them (MultiFernet), so keys can be rotated.

`POSTFLOW_ENCRYPTION_KEYS` holds the keys, newest first; what former keys closed still opens.
"""

from collections.abc import Sequence
from typing import TypeVar

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import BaseModel, SecretStr

from postflow.errors import Misconfigured

Sealed = TypeVar("Sealed", bound=BaseModel)


def new_key() -> str:
    return Fernet.generate_key().decode()


def seal(keys: Sequence[SecretStr], value: BaseModel) -> bytes:
    return seal_bytes(keys, value.model_dump_json().encode())


def unseal(keys: Sequence[SecretStr], sealed: bytes, model: type[Sealed]) -> Sealed:
    """Raises Misconfigured when none of the keys fits."""
    return model.model_validate_json(unseal_bytes(keys, sealed))


def seal_bytes(keys: Sequence[SecretStr], plain: bytes) -> bytes:
    return _fernet(keys).encrypt(plain)


def unseal_bytes(keys: Sequence[SecretStr], sealed: bytes) -> bytes:
    try:
        return _fernet(keys).decrypt(bytes(sealed))
    except InvalidToken:
        raise Misconfigured(
            "A stored token cannot be opened with POSTFLOW_ENCRYPTION_KEYS. Put the former key back behind the newest."
        ) from None


def rotate(keys: Sequence[SecretStr], sealed: bytes) -> bytes:
    """The same content under the newest key."""
    return _fernet(keys).rotate(bytes(sealed))


def _fernet(keys: Sequence[SecretStr]) -> MultiFernet:
    return MultiFernet([Fernet(key.get_secret_value()) for key in keys])
