"""What a person's work survives: coming back, taking back, cancelling."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.test_write import choose_accounts


def written(page: Page, text: str, button: str) -> None:
    page.goto("/posts/new")
    choose_accounts(page, "mastodon")
    page.fill("#text", text)
    page.click(f".actions button[value={button}]")
    page.wait_for_url(re.compile(r"/posts/\d+$"))


def test_coming_back_with_the_browser_s_button_sends_nothing_twice(signed_in: Open) -> None:
    page = signed_in(width=360)
    written(page, "sent from the page before", "now")
    made = page.url
    page.go_back()
    choose_accounts(page, "mastodon")
    page.fill("#text", "sent from the page before")  # as the browser restores it, or as somebody types it anew
    with page.expect_response(lambda answer: answer.request.method == "POST") as sent:
        page.click(".actions button[value=now]")
    assert sent.value.status == 409
    expect(page.locator("input[name=again]")).to_be_focused()
    assert page.get_by_role("link", name="Look at it").evaluate("link => link.href") == made
    expect(page.locator("#text")).to_have_value("sent from the page before")


def test_a_scheduled_post_becomes_a_draft_and_a_cancelled_one_stays_in_reach(signed_in: Open) -> None:
    page = signed_in(width=360)
    written(page, "not yet, perhaps never", "schedule")
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("button", name="Take it back into a draft").click()
    expect(page.get_by_role("status").filter(has_text="nothing of it goes out")).to_be_visible()
    page.goto("/?view=drafts")
    expect(page.locator("article", has_text="not yet, perhaps never")).to_contain_text("@demo@")
    written(page, "cancelled, and found again", "schedule")
    page.get_by_role("button", name="Cancel").click()
    page.goto("/")
    page.get_by_role("link", name="Cancelled").click()
    page.locator("article", has_text="cancelled, and found again").get_by_role("link", name="Open").click()
    page.get_by_role("button", name="Send it after all").click()
    expect(page.get_by_role("status").filter(has_text="Scheduled again: it goes out")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
