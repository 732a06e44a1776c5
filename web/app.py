"""create_app(): the web side put together. gunicorn calls it as `web.app:create_app()`."""

from datetime import timedelta

from flask import Flask
from flask_wtf.csrf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from postflow import config, logs
from web import accounts, auth, deliveries, health, media, meta_callbacks, posts, profile
from web.middleware import (
    error_pages,
    host_names,
    plain_http,
    rate_limits,
    request_ids,
    schema_gate,
    security_headers,
    static_files,
    template_filters,
)


def create_app(settings: config.Settings | None = None) -> Flask:
    """Raises Misconfigured: better not to start than to fail at the first page."""
    settings = settings or config.load()
    logs.configure(settings)
    app = Flask(__name__, static_folder=None)
    app.extensions["settings"] = settings
    _configure(app, settings)
    request_ids.register(app)
    host_names.register(app, settings)
    schema_gate.register(app, settings)
    static_files.register(app, settings)
    csrf = CSRFProtect(app)
    csrf.exempt(meta_callbacks.bp)  # what comes from Meta carries a signature instead
    rate_limits.register(app, settings)
    security_headers.register(app, settings)
    plain_http.register(app, settings)
    template_filters.register(app)
    error_pages.register(app)
    auth.register(app)
    for noun in (accounts, auth, deliveries, health, media, meta_callbacks, posts, profile):
        app.register_blueprint(noun.bp)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.proxies, x_proto=settings.proxies, x_host=settings.proxies)
    return app


def _configure(app: Flask, settings: config.Settings) -> None:
    most = settings.max_upload_mb * 1024 * 1024
    app.config.update(
        SECRET_KEY=settings.secret_key.get_secret_value(),
        SESSION_COOKIE_NAME="postflow",
        SESSION_COOKIE_SECURE=settings.is_https,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",  # Strict would arrive signed out when a network sends the person back
        PERMANENT_SESSION_LIFETIME=timedelta(days=settings.session_days),
        MAX_CONTENT_LENGTH=most + 1024 * 1024,
        MAX_FORM_MEMORY_SIZE=4 * 1024 * 1024,
        WTF_CSRF_TIME_LIMIT=None,  # as long as the session: a long post must not be lost to a clock
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
