"""Error texts in other languages, as servers answer them to people who set one: never to be relied upon by a
client.
"""

import json

from sandbox.core import wire
from sandbox.core.call import Call

_TRANSLATIONS = {
    "de": {
        "The access token is invalid": "Der Zugriffstoken ist ungültig",
        "The access token was revoked": "Der Zugriffstoken wurde zurückgezogen",
        "The access token expired": "Der Zugriffstoken ist abgelaufen",
        "This action is outside the authorized scopes": "Diese Aktion liegt außerhalb der erlaubten Bereiche",
        "Too many requests": "Zu viele Anfragen",
        "Record not found": "Datensatz nicht gefunden",
        "Validation failed": "Gültigkeitsprüfung fehlgeschlagen",
        "Text can't be blank": "Text muss ausgefüllt werden",
        "Media": "Medium",
        "not found or already attached to another post": "nicht gefunden oder schon angehängt",
    },
    "ja": {
        "The access token is invalid": "アクセストークンは無効です",
        "The access token was revoked": "アクセストークンは取り消されました",
        "The access token expired": "アクセストークンの期限が切れました",
        "This action is outside the authorized scopes": "この操作は許可された範囲の外です",
        "Too many requests": "リクエストが多すぎます",
        "Record not found": "記録が見つかりません",
        "Validation failed": "検証に失敗しました",
        "Text can't be blank": "本文を入力してください",
        "Media": "メディア",
        "not found or already attached to another post": "が存在しないか、すでに投稿に添付されています",
    },
}


def say(call: Call, text: str) -> str:
    """The text in the language of the fault switch, the request's `lang`, or the person's locale."""
    for english, other in _TRANSLATIONS.get(_language(call), {}).items():
        text = text.replace(english, other)
    return text


def translated(call: Call, response: wire.Response) -> wire.Response:
    """A refusal with its `error` text said in the right language."""
    if _language(call) not in _TRANSLATIONS or not response.body.startswith(b'{"error"'):
        return response
    body = json.loads(response.body)
    return wire.as_json({**body, "error": say(call, str(body["error"]))}, response.status, response.headers)


def _language(call: Call) -> str:
    fault = call.fault("localised")
    if fault:
        return str(fault.option("lang", "ja"))
    locale = call.account.traits.get("locale", "") if call.account else ""
    return call.params.text("lang") or locale
