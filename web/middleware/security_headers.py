"""What every answer says to the browser: no inline script or style, no framing, no sniffing, no address given away."""

from collections.abc import Callable, Iterable
from urllib.parse import urlsplit
from wsgiref.headers import Headers

import secure
from flask import Flask, Response, g, request

from postflow import config


def register(app: Flask, settings: config.Settings) -> None:
    usual, leaving = _guard(settings, ()), _guard(settings, ("https:", *_sandbox(settings)))

    @app.after_request
    def say(response: Response) -> Response:
        guard = leaving if g.get("form_leaves") else usual
        for name, value in guard.headers.items():
            response.headers.setdefault(name, value)
        if request.endpoint != "static":
            response.headers.setdefault("Cache-Control", "no-store")
        return response


def of_files(settings: config.Settings) -> Callable[[Headers, str, str], None]:
    """The same for static files, which are served before Flask sees the request."""
    guard = _guard(settings, ())

    def say(answer: Headers, _path: str, _url: str) -> None:
        for name, value in guard.headers.items():
            answer[name] = value

    return say


def form_leaves() -> None:
    """This page has a form whose answer sends the person to a network's consent page; browsers check that too."""
    g.form_leaves = True


def _guard(settings: config.Settings, form_targets: Iterable[str]) -> secure.Secure:
    policy = (
        secure.ContentSecurityPolicy()
        .default_src("'none'")
        .script_src("'self'")
        .style_src("'self'")
        .font_src("'self'")
        .connect_src("'self'")
        .img_src("'self'", "blob:", "data:", "https:", *_sandbox(settings))  # avatars live on their instances
        .media_src("'self'", "blob:")
        .form_action("'self'", *form_targets)
        .base_uri("'none'")
        .frame_ancestors("'none'")
    )
    return secure.Secure(
        csp=policy,
        hsts=secure.StrictTransportSecurity().max_age(31_536_000) if settings.is_https else None,
        referrer=secure.ReferrerPolicy().same_origin(),
        permissions=secure.PermissionsPolicy().camera().geolocation().microphone(),
        xcto=secure.XContentTypeOptions().nosniff(),
        xfo=secure.XFrameOptions().deny(),
        coop=secure.CrossOriginOpenerPolicy().same_origin(),
    )


def _sandbox(settings: config.Settings) -> list[str]:
    """The pretended networks speak plain http, each on its own port."""
    if settings.sandbox_url is None:
        return []
    parts = urlsplit(settings.sandbox_url)
    return [f"{parts.scheme}://{parts.hostname}:*"]
