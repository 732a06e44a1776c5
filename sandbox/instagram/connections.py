"""A person connected without the consent page, by either way in."""

from sandbox.core import accounts, model
from sandbox.core.call import Call
from sandbox.instagram import facebook_login, tokens

FACEBOOK_SCOPES = ["instagram_basic", "instagram_content_publish", "pages_show_list", "pages_read_engagement"]


def connect(
    call: Call,
    account: model.Account,
    scopes: list[str] | None,
    _app: tuple[str, str | None, str],
    flavour: str,
) -> accounts.Credentials:
    """The long-lived token of Instagram Login; with flavour="facebook" a page's, and its person's."""
    profile = call.profile
    if flavour != "facebook":
        wanted = scopes or tokens.INSTAGRAM_SCOPES
        token = tokens.issue(call, "long", [account.id], wanted, profile.app_id, tokens.LONG_S)
        return accounts.credentials(call, account, token, profile.app_secret)
    wanted = scopes or FACEBOOK_SCOPES
    app_id = profile.facebook_app_id
    user = tokens.issue(call, "facebook", [account.id], wanted, app_id, tokens.LONG_S)
    page = tokens.issue(call, "page", [account.id], wanted, app_id, None)
    extra = {"page_id": facebook_login.page_id(account.id), "user_token": user.id}
    return accounts.credentials(call, account, page, profile.facebook_app_secret, **extra)
