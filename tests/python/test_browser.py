"""The pages for people in a real Chromium: what they show, where they lead, and what nobody can do with them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from people import (
    LOGIN,
    NOTES,
    PAGE_MILLISECONDS_MAX,
    SCHEME_URI,
    Arrival,
    Asked,
    People,
    chromium,
    register_itself,
    violations,
)
from support import ROOT

SCREENS: Final = ROOT / "docs" / "screens"
"""Pictures of the pages; ``SCREENS=write`` makes them anew."""

SCREEN_BYTES_MAX: Final = 60_000
SCREEN_COLOURS: Final = 48
WIDE: Final = {"width": 720, "height": 360}
PHONES: Final = [320, 375]
LONG: Final = "An-application-whose-name-has-no-gap-" + "x" * 60
TABS_MAX: Final = 12

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser(people: People) -> Iterator[Browser]:
    with chromium(people.elsewhere) as started:
        yield started


@pytest.fixture
def window(browser: Browser) -> Iterator[Open]:
    """Opens windows, each a browser of its own; what Chromium complains about in them fails the test, unless it is expected."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []
    expected: list[str] = []

    def complained(message: ConsoleMessage) -> None:
        # Chromium looks for an icon of its own accord; there is none.
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            complaints.append(message.text)

    def opened(complains: str | None = None, **settings: Any) -> Page:
        context = browser.new_context(**{"viewport": WIDE, "ignore_https_errors": True, **settings})
        context.set_default_timeout(PAGE_MILLISECONDS_MAX)
        contexts.append(context)
        if complains is not None:
            expected.append(complains)
        context.on("console", complained)
        return context.new_page()

    yield opened
    for context in contexts:
        context.close()
    unexpected = [one for one in complaints if not any(re.search(pattern, one) for pattern in expected)]
    assert not unexpected


def allow(page: Page) -> None:
    page.get_by_role("button", name="Allow", exact=True).click()


def sign_in(page: Page) -> None:
    """Through the choice of providers, with the demo one."""
    page.get_by_role("link", name="Sign in with Demo").click()
    page.get_by_role("button", name="Sign in as the demo user").click()


def arrived(page: Page, asked: Asked) -> Arrival:
    """What the application's address was called with, once the browser is there; the address line holds the same."""
    page.wait_for_url(lambda url: url.startswith(f"{asked.redirect_uri}?"))
    expect(page.get_by_role("heading", name="Arrived")).to_be_visible()
    parts = urlsplit(page.url)
    return Arrival(parts.hostname or "", parts.path, parse_qs(parts.query), None)


def assert_code(people: People, asked: Asked, arrival: Arrival, *scopes: str) -> None:
    """The answer is whole, says who gives it, and the code is good for a token of just these scopes."""
    assert set(arrival.query) == {"code", "state", "iss"}
    assert (arrival.one("state"), arrival.one("iss")) == (asked.state, people.authority.issuer)
    tokens = people.redeem(asked, arrival.one("code"))
    assert [word for word in tokens["scope"].split(" ") if word.startswith("notes:")] == list(scopes)
    told = people.authority.introspect(people.server, tokens["access_token"])
    assert (told["active"], told["client_id"], told["aud"]) == (True, asked.client_id, NOTES)


def agree(people: People, page: Page, asked: Asked) -> Arrival:
    """From the application through consent and sign-in back to it."""
    page.goto(asked.url)
    allow(page)
    sign_in(page)
    return arrived(page, asked)


# Where it leads.


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_person_allows_an_application_signs_in_and_comes_back_with_a_code(
    people: People, window: Open, script: bool
) -> None:
    page = window(java_script_enabled=script)
    asked = people.ask()
    page.goto(asked.url)
    expect(page).to_have_title("Allow Notes on the desk?")
    main = page.get_by_role("main")
    for said in [
        "calls itself Notes on the desk. Nobody has checked that.",
        f"127.0.0.1:{people.local.port}, a program on your own computer",
        "Any program on your device can say that it is Notes on the desk.",
        NOTES,
        "Read your notes",
        "tools/call:notes_read",
    ]:
        expect(main).to_contain_text(said)
    expect(main).not_to_contain_text("Write")
    allow(page)
    expect(page).to_have_title("Sign in")
    sign_in(page)
    arrival = arrived(page, asked)
    assert_code(people, asked, arrival, "notes:read")
    assert people.local.arrivals[-1].referrer is None, "no address of ours is told to the application"


def test_nothing_goes_to_a_provider_before_the_person_has_agreed(people: People, window: Open) -> None:
    page = window()
    before = len(people.elsewhere.arrivals)
    page.goto(people.ask().url)
    flow = page.url.rsplit("/", 1)[1]
    for early in ["", "/company", "/demo"]:
        page.goto(f"{people.authority.issuer}/sign-in/{flow}{early}")
        expect(page).to_have_title("Allow Notes on the desk?")
    assert len(people.elsewhere.arrivals) == before
    allow(page)
    page.get_by_role("link", name="Sign in with Example Company").click()
    page.wait_for_url(f"https://{LOGIN}/authorize*")
    (arrival,) = people.elsewhere.arrivals[before:]
    assert (arrival.host, arrival.path, arrival.referrer) == (LOGIN, "/authorize", None)
    assert arrival.one("redirect_uri") == f"{people.authority.issuer}/callback/company"
    assert arrival.one("code_challenge_method") == "S256"


def test_with_one_provider_the_choice_goes_on_by_itself(people: People, window: Open) -> None:
    with people.only(people.demo):
        page = window(java_script_enabled=False)
        asked = people.ask()
        page.goto(asked.url)
        allow(page)
        page.get_by_role("button", name="Sign in as the demo user").click()
        arrived(page, asked)


def test_who_does_not_allow_it_is_sent_back_without_a_code(people: People, window: Open) -> None:
    page = window(complains="status of 400")
    asked = people.ask()
    page.goto(asked.url)
    page.get_by_role("button", name="Do not allow").click()
    arrival = arrived(page, asked)
    assert set(arrival.query) == {"error", "error_description", "state", "iss"}
    assert (arrival.one("error"), arrival.one("state")) == ("access_denied", asked.state)
    assert arrival.one("iss") == people.authority.issuer
    page.go_back()
    expect(page).to_have_title("This sign-in cannot go on")


def test_an_application_on_the_web_is_not_asked_for_twice_and_more_is_asked_for_anew(
    people: People, window: Open
) -> None:
    page = window()
    asked = people.ask("web")
    assert_code(people, asked, agree(people, page, asked), "notes:read")

    again = people.ask("web")
    page.goto(again.url)
    assert_code(people, again, arrived(page, again), "notes:read")

    more = people.ask("web", "notes:write")
    page.goto(more.url)
    expect(page).to_have_title("Allow Example Chat?")
    main = page.get_by_role("main")
    for said in ["entered here by an administrator", "signed in with Demo", "Write and change your notes"]:
        expect(main).to_contain_text(said)
    allow(page)
    assert_code(people, more, arrived(page, more), "notes:write")

    both = people.ask("web", "notes:read notes:write")
    page.goto(both.url)
    assert_code(people, both, arrived(page, both), "notes:read", "notes:write")


def test_a_program_on_this_machine_is_asked_for_each_time(people: People, window: Open) -> None:
    page = window()
    agree(people, page, people.ask())
    again = people.ask()
    page.goto(again.url)
    expect(page).to_have_title("Allow Notes on the desk?")
    expect(page.get_by_role("main")).to_contain_text("signed in with Demo")
    allow(page)
    assert_code(people, again, arrived(page, again), "notes:read")


def test_somebody_else_can_sign_in(people: People, window: Open) -> None:
    page = window()
    agree(people, page, people.ask())
    asked = people.ask()
    page.goto(asked.url)
    page.get_by_role("button", name="Sign in as somebody else").click()
    expect(page.get_by_role("main")).not_to_contain_text("signed in with Demo")
    allow(page)
    sign_in(page)
    assert_code(people, asked, arrived(page, asked), "notes:read")


@pytest.mark.parametrize("signed_in", [False, True], ids=["signing-in", "signed-in"])
def test_an_application_with_a_scheme_of_its_own_is_reached(people: People, window: Open, signed_in: bool) -> None:
    """No program here has the scheme, so that the journey ends there; that Chromium sets out on it is what can be seen."""
    page = window()
    if signed_in:
        agree(people, page, people.ask())
    asked = people.ask("scheme")
    page.goto(asked.url)
    expect(page.get_by_role("main")).to_contain_text("opens com.example.notes: links")
    if not signed_in:
        allow(page)
        page.get_by_role("link", name="Sign in with Demo").click()
    with page.expect_request(lambda request: request.url.startswith(f"{SCHEME_URI}?")) as leaving:
        if signed_in:
            allow(page)
        else:
            page.get_by_role("button", name="Sign in as the demo user").click()
    parts = urlsplit(leaving.value.url)
    assert_code(people, asked, Arrival("", parts.path, parse_qs(parts.query), None), "notes:read")


# What is wrong is told to the person.


def test_an_unknown_application_sends_nobody_anywhere(people: People, window: Open) -> None:
    page = window(complains="status of 400")
    before = len(people.local.arrivals)
    response = page.goto(people.ask("cli_00000000000000000000000000000000").url)
    assert response is not None
    assert response.status == 400
    assert page.url.startswith(f"{people.authority.issuer}/authorize?")
    expect(page.get_by_role("heading", level=1)).to_have_text("This application cannot sign you in")
    expect(page.get_by_role("contentinfo")).to_contain_text("client_unknown")
    assert len(people.local.arrivals) == before


def test_a_wrong_address_to_return_to_sends_nobody_there(people: People, window: Open) -> None:
    page = window(complains="status of 400")
    before = len(people.local.arrivals)
    page.goto(people.ask("web", redirect_uri=f"{people.local.url}/stolen").url)
    expect(page.get_by_role("heading", level=1)).to_have_text("This application gave a wrong address to return to")
    expect(page.get_by_role("main")).to_contain_text(people.web_callback)
    expect(page.get_by_role("contentinfo")).to_contain_text("redirect_mismatch")
    assert page.get_by_role("link").count() == 0
    assert len(people.local.arrivals) == before


def test_where_nobody_can_sign_in_the_page_says_so(people: People, window: Open) -> None:
    with people.only():
        page = window(complains="status of 400")
        page.goto(people.ask().url)
        expect(page.get_by_role("heading", level=1)).to_have_text("No sign-in is configured")
        expect(page.get_by_role("main")).to_contain_text("API key")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_an_application_that_nobody_checked_is_told_of_its_mistake_only_by_the_person(
    people: People, window: Open, script: bool
) -> None:
    page = window(complains="status of 400", java_script_enabled=script)
    before = len(people.local.arrivals)
    asked = people.ask(scope="no such scope!")
    page.goto(asked.url)
    main = page.get_by_role("main")
    expect(main).to_contain_text("You were not sent back automatically")
    expect(main).to_contain_text(f"127.0.0.1:{people.local.port}, a program on your own computer")
    expect(page.get_by_role("contentinfo")).to_contain_text("invalid_scope")
    assert len(people.local.arrivals) == before
    page.get_by_role("link", name="Go on to the application").click()
    arrival = arrived(page, asked)
    assert (arrival.one("error"), arrival.one("state")) == ("invalid_scope", asked.state)
    assert people.local.arrivals[-1].referrer is None


# What a person allowed, and devices.


def grants_page(people: People) -> str:
    return f"{people.authority.issuer}/grants"


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_person_sees_what_it_allowed_and_takes_it_back(people: People, window: Open, script: bool) -> None:
    page = window(java_script_enabled=script)
    asked = people.ask("web", "notes:read notes:write")
    page.goto(grants_page(people))
    before = len(people.elsewhere.arrivals)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_title("Sign in")
    assert len(people.elsewhere.arrivals) == before, "nothing goes to a provider before a way is chosen"
    sign_in(page)
    expect(page).to_have_title("What you allowed")
    tokens = people.redeem(asked, agreed_again(people, page, asked).one("code"))
    assert people.authority.introspect(people.server, tokens["access_token"])["active"]
    page.goto(grants_page(people))
    one = page.get_by_role("region", name="Example Chat on Notes")
    for said in ["Read your notes", "Write and change your notes", NOTES, "Since "]:
        expect(one).to_contain_text(said)
    one.get_by_role("button", name="Take back").click()
    expect(page.get_by_role("status")).to_contain_text("Taken back.")
    expect(page.get_by_role("region", name="Example Chat on Notes")).to_have_count(0)
    assert people.authority.introspect(people.server, tokens["access_token"]) == {"active": False}
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def agreed_again(people: People, page: Page, asked: Asked) -> Arrival:
    """From the application to the code, in a browser that is signed in already."""
    page.goto(asked.url)
    if page.title().startswith("Allow"):
        allow(page)
    return arrived(page, asked)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_person_connects_a_device(people: People, window: Open, script: bool) -> None:
    page = window(java_script_enabled=script)
    begun = people.device()
    page.goto(begun["verification_uri_complete"])
    expect(page.get_by_label("Code")).to_have_value(begun["user_code"])
    page.get_by_label("Code").fill(begun["user_code"].replace("-", "").lower())
    page.keyboard.press("Enter")
    expect(page).to_have_title("Allow Television?")
    main = page.get_by_role("main")
    for said in [begun["user_code"], "If somebody sent you this code", "Read your notes", NOTES]:
        expect(main).to_contain_text(said)
    allow(page)
    sign_in(page)
    expect(page.get_by_role("main")).to_contain_text("You can go back to your device.")
    tokens = people.of_device(begun)
    assert people.authority.introspect(people.server, tokens["access_token"])["active"]


# What nobody can do with the pages.


def test_no_page_can_be_framed(people: People, window: Open) -> None:
    page = window(complains="Refused to (display|frame)|frame-ancestors|X-Frame-Options|status of 400")
    asked = people.ask()
    response = page.goto(asked.url)
    assert response is not None
    assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
    assert response.headers["x-frame-options"] == "DENY"
    people.local.pages["/trap"] = f"<!doctype html><title>Trap</title><iframe src='{page.url}'></iframe>"
    people.local.pages["/trap-error"] = (
        f"<!doctype html><title>Trap</title><iframe src='{people.authority.issuer}/authorize?client_id=x'></iframe>"
    )
    for trap in ["/trap", "/trap-error"]:
        with page.expect_event("console", lambda message: "frame" in message.text.lower()):
            page.goto(f"{people.local.url}{trap}")
        (frame,) = page.main_frame.child_frames
        assert frame.get_by_role("heading").count() == 0
        assert frame.get_by_role("button").count() == 0


def test_another_site_cannot_press_the_button(people: People, window: Open) -> None:
    """Another port of this machine is the same site to a browser: the cookie comes along, and only the guard is left."""
    page = window(complains="status of 403")
    asked = people.ask()
    page.goto(asked.url)
    before = len(people.local.arrivals)
    people.local.pages["/forged"] = (
        f"<!doctype html><title>Forged</title><form method=post action='{page.url}'>"
        "<input type=hidden name=decision value=approve><button>Win a prize</button></form>"
    )
    page.goto(f"{people.local.url}/forged")
    with page.expect_navigation() as pressed:
        page.get_by_role("button").click()
    assert pressed.value.status == 403
    expect(page.get_by_role("contentinfo")).to_contain_text("cross_site")
    assert [arrival.path for arrival in people.local.arrivals[before:]] == ["/forged"]


def test_another_browser_cannot_go_on_with_it(people: People, window: Open) -> None:
    page = window()
    page.goto(people.ask().url)
    stranger = window(complains="status of 400")
    stranger.goto(page.url)
    expect(stranger.get_by_role("heading", level=1)).to_have_text("This sign-in cannot go on")


def test_an_applications_name_is_text_and_nothing_else(people: People, window: Open) -> None:
    name = "<img src=x onerror=alert(1)><b>Bold</b>&amp;"
    people.clients["hostile"] = register_itself(people.authority, name, people.callback)
    page = window()
    page.goto(people.ask("hostile").url)
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    assert page.locator("img, b, script").count() == 0


# How the pages look, to whom.


def consent(people: People, page: Page) -> None:
    page.goto(people.ask(scope="notes:read notes:write offline_access").url)


def consent_known(people: People, page: Page) -> None:
    agree(people, page, people.ask())
    page.goto(people.ask("web", "notes:read notes:write", prompt="consent").url)


def choice(people: People, page: Page) -> None:
    consent(people, page)
    allow(page)


def demo(people: People, page: Page) -> None:
    choice(people, page)
    page.get_by_role("link", name="Sign in with Demo").click()


def wrong_application(people: People, page: Page) -> None:
    page.goto(people.ask("cli_00000000000000000000000000000000").url)


def wrong_address(people: People, page: Page) -> None:
    page.goto(people.ask("web", redirect_uri="https://app.example.attacker.example/callback").url)


def no_sign_in(people: People, page: Page) -> None:
    with people.only():
        page.goto(people.ask().url)


def early_error(people: People, page: Page) -> None:
    page.goto(people.ask(scope="no such scope!").url)


def grants(people: People, page: Page) -> None:
    agree(people, page, people.ask("web", "notes:read notes:write"))
    page.goto(people.ask().url)
    allow(page)
    page.goto(grants_page(people))


def grants_sign_in(people: People, page: Page) -> None:
    page.goto(grants_page(people))


def device(people: People, page: Page) -> None:
    page.goto(f"{people.authority.issuer}/device?user_code=BCDF-GHJK")


def device_wrong(people: People, page: Page) -> None:
    device(people, page)
    page.get_by_role("button", name="Go on").click()


def device_consent(people: People, page: Page) -> None:
    page.goto(people.device()["verification_uri_complete"])
    page.get_by_role("button", name="Go on").click()


def device_done(people: People, page: Page) -> None:
    page.goto(f"{people.authority.issuer}/device/done")


def long_words(people: People, page: Page) -> None:
    people.clients.setdefault("long", register_itself(people.authority, LONG, people.callback))
    page.goto(people.ask("long", scope="resources/read:notes:///" + "y" * 200).url)


SHOWN: Final = [
    consent,
    consent_known,
    choice,
    demo,
    wrong_application,
    wrong_address,
    no_sign_in,
    early_error,
    grants,
    grants_sign_in,
    device,
    device_wrong,
]
CHANGING: Final = [device_consent, device_done]
"""Pages that are looked at, without a picture: a code is another each time."""

ODD: Final = [*SHOWN, *CHANGING, long_words]


def named(page: Callable[..., None]) -> str:
    return page.__name__.replace("_", "-")


def picture(page: Page, name: str) -> None:
    """Keeps how it looks, when that is wanted."""
    if os.environ.get("SCREENS") == "write":
        SCREENS.mkdir(exist_ok=True)
        file = SCREENS / f"{name}.png"
        drawn = Image.open(BytesIO(page.screenshot(full_page=True)))
        drawn.quantize(SCREEN_COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
        assert file.stat().st_size < SCREEN_BYTES_MAX, name
    else:
        assert (SCREENS / f"{name}.png").is_file(), f"make it with SCREENS=write: {name}"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("shown", ODD, ids=named)
def test_a_page_is_accessible_and_holds_what_every_page_holds(
    people: People, window: Open, shown: Callable[..., None], theme: str
) -> None:
    page = window(complains="status of 400", color_scheme=theme)
    shown(people, page)
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.title()
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("contentinfo")).to_have_count(1)
    assert page.locator("script").count() == 0
    assert violations(page) == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in re.findall(r"\d+", ground)[:3]) / 3
    assert (brightness < 64) == (theme == "dark"), ground
    if shown in SHOWN:
        picture(page, f"{named(shown)}-{theme}")


@pytest.mark.parametrize("width", PHONES)
@pytest.mark.parametrize("shown", ODD, ids=named)
def test_nothing_is_wider_than_a_phone(people: People, window: Open, shown: Callable[..., None], width: int) -> None:
    page = window(
        complains="status of 400", viewport={"width": width, "height": 640}, is_mobile=True, has_touch=True
    )
    shown(people, page)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wider = page.evaluate(
        """width => [...document.body.querySelectorAll('*')].filter(element => {
            const box = element.getBoundingClientRect();
            return box.left < 0 || box.right > width + 0.5 || element.scrollWidth > element.clientWidth + 1 && element.clientWidth;
        }).map(element => element.outerHTML.slice(0, 80))""",
        width,
    )
    assert wider == []
    for button in page.get_by_role("button").all() + page.locator("nav a").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44, "large enough for a thumb"
    if shown in SHOWN and width == PHONES[-1]:
        picture(page, f"{named(shown)}-phone")


def tabs(page: Page) -> list[str]:
    """What the keyboard reaches, in order; each shows that it is reached."""
    reached: list[str] = []
    for _ in range(TABS_MAX):
        page.keyboard.press("Tab")
        text = page.evaluate("document.activeElement === document.body ? null : document.activeElement.textContent.trim()")
        if text is None or text in reached:
            return reached
        style, width = page.evaluate(
            "[getComputedStyle(document.activeElement).outlineStyle, getComputedStyle(document.activeElement).outlineWidth]"
        )
        assert (style, width) == ("solid", "3px"), text
        reached.append(text)
    raise AssertionError(reached)


def test_the_keyboard_is_enough(people: People, window: Open) -> None:
    page = window()
    agree(people, page, people.ask())
    page.goto(people.ask("web", "notes:read", prompt="consent").url)
    assert tabs(page) == ["Allow", "Do not allow", "Sign in as somebody else"]

    page.context.clear_cookies()
    asked = people.ask()
    page.goto(asked.url)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_title("Sign in")
    assert tabs(page) == ["Sign in with Example Company", "Sign in with Demo"]
    page.get_by_role("link", name="Sign in with Demo").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title("Demo sign-in – not for real use")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert_code(people, asked, arrived(page, asked), "notes:read")
