"""A person at the pages, in headless Chromium, with `postflow dev` behind them."""

from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.patience import PATIENCE_S


def pictures(folder: Path) -> list[Path]:
    """A wide one and a tall one."""
    Image.new("RGB", (800, 400), "orange").save(folder / "wide.png")
    Image.new("RGB", (300, 900), "teal").save(folder / "tall.png")
    return [folder / "wide.png", folder / "tall.png"]


def choose_accounts(page: Page, *networks: str) -> None:
    for network in networks:
        page.locator(f"input[name=account][data-network={network}]").check()


def test_a_picture_written_in_the_browser_is_out_on_three_networks(signed_in: Open, tmp_path: Path) -> None:
    page = signed_in()
    page.goto("/posts/new")
    choose_accounts(page, "mastodon", "pixelfed", "instagram")
    page.fill("#text", "x" * 501)
    expect(page.locator("[data-too-long]").first).to_contain_text("Too long for @demo@")  # read aloud, once
    page.fill("#text", "written in a browser")
    expect(page.locator("[data-too-long]").first).to_have_text("")
    expect(page.locator(".counters").first).to_contain_text("left")
    page.set_input_files("#files", pictures(tmp_path)[0])
    page.fill(".piece textarea", "an orange field")
    page.click("button[value=now]")
    page.locator(".pill-published").nth(2).wait_for()
    assert page.locator(".delivery p a").count() == 3
    expect(page.locator("#said")).to_contain_text("Published.")  # read aloud where a screen reader listens


def test_focal_points_tags_and_order_are_set_by_pointing(signed_in: Open, tmp_path: Path) -> None:
    page = signed_in()
    page.goto("/posts/new")
    choose_accounts(page, "instagram")
    page.set_input_files("#files", pictures(tmp_path))
    first, second = page.locator(".piece").nth(0), page.locator(".piece").nth(1)
    second.wait_for()
    expect(first.locator(".pick img")).to_have_js_property("naturalWidth", 678)  # it is there to be pointed at
    box = first.locator(".pick img").bounding_box()
    assert box
    first.locator(".pick").click(position={"x": box["width"] * 0.25, "y": box["height"] * 0.75})
    expect(first.locator("input[name^=focus_left]")).to_have_value("25")
    expect(first.locator("input[name^=focus_top]")).to_have_value("75")
    expect(first.locator(".spot")).to_be_visible()
    first.get_by_role("button", name="Tag somebody").click()
    first.get_by_placeholder("@name").fill("@robin")
    first.locator(".pick").click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.1})
    tags = page.locator("textarea[name='instagram.user_tags']")
    expect(tags).to_have_value("1 @robin 0.50 0.10")
    expect(first.locator(".tag-spot")).to_have_text("@robin")
    first.get_by_role("button", name="Later").click()
    expect(tags).to_have_value("2 @robin 0.50 0.10")
    expect(page.locator(".piece").nth(1).locator(".tag-spot")).to_have_text("@robin")
    second.get_by_role("button", name="Remove").click()
    expect(page.locator(".piece")).to_have_count(1)


def test_a_check_shows_what_each_network_gets_without_leaving_the_page(signed_in: Open, tmp_path: Path) -> None:
    page = signed_in()
    page.goto("/posts/new")
    choose_accounts(page, "mastodon", "instagram")
    page.fill("#text", "a thread")
    page.set_input_files("#files", pictures(tmp_path)[1])
    page.locator(".piece").wait_for()
    page.get_by_role("button", name="Add a part").click()
    page.fill("#text-1", "its second part")
    page.set_input_files("#files-1", pictures(tmp_path)[0])
    page.locator(".piece").nth(1).wait_for()
    page.locator(".actions button[value=check]").click()
    expect(page.locator(".verdict")).to_have_count(2)
    expect(page.locator(".verdict", has_text="Instagram")).to_contain_text("Must change, part 2")
    page.locator(".previews").first.scroll_into_view_if_needed()
    preview = page.locator(".verdict", has_text="Instagram").locator(".previews img").first
    expect(preview).to_have_js_property("naturalWidth", 300)
    expect(preview).to_have_js_property("naturalHeight", 375)
    expect(page.locator("#text-1")).to_have_value("its second part")


def test_an_open_page_outlives_a_server_that_is_away_for_a_moment(signed_in: Open) -> None:
    page = signed_in()
    page.goto("/posts/new")
    choose_accounts(page, "mastodon")
    page.fill("#text", "due in some years")
    page.fill("#date", "2031-01-01")
    page.get_by_role("button", name="Schedule").click()
    page.locator(".pill-scheduled").wait_for()
    page.clock.install()
    page.goto("/?view=upcoming")
    page.route("**/?view=upcoming**", lambda route: route.fulfill(status=503, body="<p>The database is away</p>"))
    with page.expect_response(lambda answer: answer.status == 503, timeout=PATIENCE_S * 1000):
        page.clock.fast_forward(31_000)
    expect(page.locator(".post-text", has_text="due in some years")).to_be_visible()
    expect(page.get_by_text("The database is away")).to_have_count(0)
    page.unroute("**/?view=upcoming**")


def test_everything_works_without_a_script(signed_in: Open, tmp_path: Path) -> None:
    page = signed_in(java_script_enabled=False)
    page.goto("/posts/new")
    choose_accounts(page, "mastodon")
    page.fill("#text", "plain and simple")
    page.set_input_files("#files", pictures(tmp_path))
    page.get_by_role("button", name="Add a part").click()
    assert page.locator(".piece").count() == 2
    page.fill("#text-1", "part two")
    page.locator(".piece textarea").first.fill("an orange field")
    page.locator(".piece summary").first.click()
    page.locator("input[name^=focus_left]").first.fill("10")
    page.fill("#spoiler_text", "colours")
    page.locator("#spoiler_text").press("Enter")  # checks; it must not press the first “Remove”
    assert "This can go out" in page.inner_text("#check")
    assert page.locator(".piece").count() == 2
    page.locator("button[name=earlier]").nth(1).click()
    page.get_by_role("button", name="Schedule").click()
    assert page.locator("section.post").count() == 2
    assert "an orange field" in page.inner_text("section.post >> nth=0")
    assert "10 % from the left" in page.inner_text("section.post >> nth=0")
    page.get_by_text("Move to another time").click()
    page.fill("#date", "2027-03-04")
    page.get_by_role("button", name="Move", exact=True).click()
    assert "4 Mar 2027" in page.inner_text(".page-head")
    page.get_by_role("link", name="Delete").click()
    assert "This will not be published" in page.inner_text("main")
    page.get_by_role("button", name="Delete it here").click()
    assert "Deleted here" in page.inner_text("main")


def test_no_page_scrolls_sideways_on_a_phone(signed_in: Open) -> None:
    page = signed_in(width=375, color_scheme="dark")
    for path in ("/", "/?view=published", "/?view=attention", "/?view=drafts", "/posts/new", "/posts/1", "/accounts"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 375, path
