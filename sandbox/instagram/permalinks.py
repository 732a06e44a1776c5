"""Addresses on Instagram, where a number is written as a short code."""

from sandbox.core import model
from sandbox.core.instance import Instance

_SHORT = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def profile_url(instance: Instance, account: model.Account) -> str:
    """/wren"""
    return f"{instance.url}/{account.username}"


def status_url(instance: Instance, account: model.Account, status: model.Status) -> str:
    """/p/CODE/ or /reel/CODE/"""
    section = "reel" if status.details.get("media_product_type") == "REELS" else "p"
    return f"{instance.url}/{section}/{shortcode(status.id)}/"


def shortcode(number: str) -> str:
    """Instagram's way of writing a number in a link."""
    value, code = int(number), ""
    while value:
        value, digit = divmod(value, 64)
        code = _SHORT[digit] + code
    return code


def from_shortcode(code: str) -> str:
    """The number behind a shortcode; empty when it is none."""
    value = 0
    for letter in code:
        digit = _SHORT.find(letter)
        if digit < 0:
            return ""
        value = value * 64 + digit
    return str(value)
