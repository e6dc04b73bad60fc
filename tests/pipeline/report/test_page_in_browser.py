"""The page in Chromium, operated by mouse and keyboard."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.pages import BROWSER, DURATION_SECONDS, contrast, make_video, page_video

from ccln.pipeline.localize.result import Event
from ccln.pipeline.report.page import write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("playwright", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]

NASTY = "<img src=x onerror=alert(1)> \"quoted\" & 'so'"


class Visit:
    """An open page, its requests and its errors."""

    def __init__(self, browser: "Browser", path: Path, **context: Any) -> None:
        self.page: Page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context}).new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.goto(path.as_uri())

    def ready(self) -> "Page":
        self.until("document.getElementById('video').readyState >= 2")
        return self.page

    def until(self, condition: str) -> None:
        """Wait; the page's policy forbids what the driver's own waiting does, to evaluate texts within the page."""
        for _ in range(300):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"not within half a minute: {condition}")

    def seconds(self) -> float:
        """Where the video is."""
        return self.page.evaluate("document.getElementById('video').currentTime")


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=quiet)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of nasty and other names, one of which no browser plays, and their page."""
    folder = tmp_path_factory.mktemp("pages")
    make_video(folder / "first.webm")
    shutil.copy(folder / "first.webm", folder / f"{NASTY.replace('/', '')}.webm")
    (folder / "broken.mp4").write_bytes(b"this is no video")
    clips = [
        page_video(folder / "first.webm"),
        page_video(folder / f"{NASTY}.webm", (Event(NASTY, 1.0, 2.0, 0.5),)),
        page_video(folder / "broken.mp4"),
    ]
    write_page(clips, folder / "page.html", title=f"</title>{NASTY}")
    write_page(clips, folder / "beside.html", title="beside", embed_limit_bytes=0)
    return folder


@pytest.fixture
def visit(browser: "Browser", folder: Path) -> Iterator[Visit]:
    visit = Visit(browser, folder / "page.html")
    visit.ready()
    yield visit
    visit.page.context.close()


def test_events_seek_and_move_with_playback(visit: Visit) -> None:
    page = visit.page
    page.locator("#events button", has_text="Church bell").click()
    assert visit.seconds() == 2.5
    assert page.locator("#time").inner_text() == "0:02.5 / 0:06.0"
    assert page.locator("#readout").inner_text() == "0:02–0:03 Dog: seen 0.40, heard 0.60, event 0.20"
    assert page.locator("#position").get_attribute("aria-valuetext") == "0:02.5 of 0:06.0, Dog"
    both = page.locator("#events button[aria-current=true]")
    assert both.all_inner_texts() == ["Dog\n0:01.5–0:03.0\n0.75", "Church bell\n0:02.5–0:04.0\n0.50"]
    page.locator(".lanes button", has_text="Dog").last.click()
    assert visit.seconds() == 5.0
    page.locator("#seen").click(position={"x": 1, "y": 5})
    assert visit.seconds() < 0.1
    playhead = "document.getElementById('playhead').getBoundingClientRect().x"
    before = page.evaluate(playhead)
    page.keyboard.press("Space")
    visit.until("document.getElementById('video').currentTime > 1.6")
    page.keyboard.press("Space")
    visit.until("document.getElementById('play').innerText === 'Play'")  # changed by an event, after the key
    assert page.evaluate(playhead) > before
    assert page.locator("#events button[aria-current=true]").count() >= 1


def test_keys_seek_switch_and_focus(visit: Visit) -> None:
    page = visit.page
    reached = []
    for key in ("n", "n", "n", "n", "p", "ArrowLeft", "ArrowRight", "Shift+ArrowRight", "Shift+ArrowLeft"):
        page.keyboard.press(key)
        reached.append(visit.seconds())
    assert reached == [1.5, 2.5, 5.0, 5.0, 2.5, 1.5, 2.5, DURATION_SECONDS, 0.0]
    page.keyboard.press("a")
    assert not page.locator("#attention").is_visible()
    assert page.locator("#show-attention").get_attribute("aria-pressed") == "false"
    page.keyboard.press("/")
    page.keyboard.type("n p a ")  # in a text they are letters
    assert page.locator("#find").input_value() == "n p a "
    assert visit.seconds() == 0.0
    page.locator("#events button").nth(1).focus()
    page.keyboard.press("Space")  # on a button it presses it
    assert visit.seconds() == 2.5
    assert page.evaluate("document.getElementById('video').paused")
    outline = page.locator("#events button").nth(1).evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid"


def test_a_class_filter_hides_videos_and_events_without_it(visit: Visit) -> None:
    page = visit.page
    page.locator("#class-buttons button", has_text="Church bell").click()
    assert page.locator("#found").inner_text() == "2 of 3 videos"
    assert page.locator("#events button .label").all_inner_texts() == ["Church bell"]
    count = page.locator("#event-count").inner_text()
    assert count == "1 event, each at least 2 s long: start–end, confidence. 2 events of other classes hidden."
    assert page.locator(".lanes button").count() == 1
    page.keyboard.press("n")
    assert visit.seconds() == 2.5
    page.keyboard.press("Shift+N")  # passes over the clip without one
    assert page.locator("#name").inner_text() == "broken.mp4"
    page.locator("#class-buttons button", has_text="All").click()
    assert page.locator("#class-buttons button[aria-pressed=true]").all_inner_texts() == ["All"]
    page.locator("#find").fill("FIRST")
    assert page.locator("#list button:visible .name").all_inner_texts() == ["first.webm"]


def test_a_filter_opens_a_video_that_has_the_class(visit: Visit) -> None:
    page = visit.page
    page.locator("#class-buttons button", has_text=NASTY).click()
    assert page.locator("#list button:visible .name").all_inner_texts() == [f"{NASTY}.webm"]
    assert page.locator("#name").inner_text() == f"{NASTY}.webm"
    assert page.locator("#events button .label").all_inner_texts() == [NASTY]


def test_no_number_in_a_bar_is_cut(browser: "Browser", tmp_path: Path) -> None:
    events = tuple(Event("Church bell", 0.2 * n * n, 0.2 * n * n + 0.1 * n, 0.87) for n in range(1, 16))
    (tmp_path / "long.webm").write_bytes(b"no video")
    write_page([page_video(tmp_path / "long.webm", events, 60.0, 60)], tmp_path / "page.html", title="long")
    visit = Visit(browser, tmp_path / "page.html")
    texts = set()
    for _ in range(5):
        for bar in visit.page.locator(".lanes button").all():
            texts.add(bar.inner_text())
            assert bar.evaluate("bar => bar.scrollWidth <= bar.clientWidth")
        visit.page.keyboard.press("+")
    assert texts == {"", "0.87", "Church bell 0.87"}
    visit.page.context.close()


def test_names_are_plain_text_and_the_page_makes_no_request(visit: Visit, folder: Path) -> None:
    page = visit.page
    assert page.title() == f"</title>{NASTY}"
    assert page.locator("h1").inner_text() == f"</title>{NASTY}"
    page.locator("#list button", has_text=NASTY).click()
    assert page.locator("#name").inner_text() == f"{NASTY}.webm"
    assert page.locator("#bars .caption").inner_text() == NASTY
    assert page.locator(".lanes button").inner_text() == "0.50"
    assert page.locator("img").count() == 0
    visit.ready()
    assert {url.split(":")[0] for url in visit.requests} == {"file", "blob"}
    assert [url for url in visit.requests if url.startswith("file:")] == [(folder / "page.html").as_uri()]
    assert visit.complaints == []
    refused = page.evaluate(
        "fetch('http://127.0.0.1:9/').then(() => 'fetched', error => error.name)"
    )  # by the page's own policy, before any request
    assert refused == "TypeError"
    assert any("Content Security Policy" in complaint for complaint in visit.complaints)
    assert not [url for url in visit.requests if url.startswith("http")]


def test_attention_follows_the_playhead(visit: Visit) -> None:
    """The attention of segment s is on region s: of the grid of 2 × 3, its middle is the brightest."""
    page = visit.page
    brightest = """() => {
        const canvas = document.getElementById("attention");
        const context = canvas.getContext("2d");
        const alphas = [...Array(6).keys()].map((region) => context.getImageData(
            (region % 3 + 0.5) * canvas.width / 3, (Math.floor(region / 3) + 0.5) * canvas.height / 2, 1, 1).data[3]);
        return alphas.indexOf(Math.max(...alphas));
    }"""
    found = []
    for _ in range(6):
        found.append(page.evaluate(brightest))
        page.keyboard.press("ArrowRight")
    assert found == list(range(6))


def test_a_video_that_cannot_be_played_still_shows_its_events(visit: Visit) -> None:
    page = visit.page
    page.locator("#list button", has_text="broken").click()
    page.locator("#notice").wait_for(state="visible")
    assert page.locator("#notice").inner_text().startswith("This browser cannot play the video.")
    page.locator("#events button", has_text="Church bell").click()
    assert page.locator("#time").inner_text() == "0:02.5 / 0:06.0"
    page.keyboard.press("Shift+P")
    visit.ready()
    assert not page.locator("#notice").is_visible()


def test_videos_beside_the_page_are_found(browser: "Browser", folder: Path) -> None:
    visit = Visit(browser, folder / "beside.html")
    page = visit.ready()
    page.locator("#list button", has_text=NASTY).click()
    visit.ready()
    page.keyboard.press("n")
    assert visit.seconds() == 1.0
    assert all(url.startswith(folder.as_uri()) for url in visit.requests)
    page.context.close()


def test_a_video_no_longer_beside_the_page_is_named(browser: "Browser", folder: Path, tmp_path: Path) -> None:
    (tmp_path / "beside.html").write_bytes((folder / "beside.html").read_bytes())
    visit = Visit(browser, tmp_path / "beside.html")
    visit.page.locator("#list button", has_text=NASTY).click()
    visit.page.locator("#notice").wait_for(state="visible")
    assert f"There is no video at {NASTY}.webm from this page's folder" in visit.page.locator("#notice").inner_text()
    visit.page.locator("#events button").click()
    assert visit.page.locator("#time").inner_text() == "0:01.0 / 0:06.0"
    visit.page.context.close()


def test_the_class_at_the_mouse_or_playhead_is_shown(visit: Visit) -> None:
    page = visit.page
    assert "Outside events the class means little" in page.locator("#legend").inner_text()
    shown = page.locator("#what")
    assert shown.inner_text() == "0:00–0:01 Silence:"
    width = page.evaluate("document.getElementById('wide').clientWidth")
    page.locator("#labels").hover(position={"x": 3.5 * width / 6, "y": 8})
    assert shown.inner_text() == "0:03–0:04 Church bell:"
    assert visit.seconds() == 0
    page.locator("#name").hover()
    assert shown.inner_text() == "0:00–0:01 Silence:"
    page.keyboard.press("ArrowRight")
    assert shown.inner_text() == "0:01–0:02 Dog:"
    page.locator("#list button", has_text=NASTY).click()
    visit.ready()
    page.keyboard.press("n")
    assert shown.inner_text() == f"0:01–0:02 {NASTY}:"


def test_each_list_is_a_single_tab_stop(visit: Visit) -> None:
    page = visit.page
    page.keyboard.press("c")
    focused = "document.activeElement.innerText"
    assert page.evaluate(focused) == "All"
    page.locator("#find").focus()
    page.keyboard.press("Tab")
    assert page.evaluate(focused).startswith("first.webm")
    page.keyboard.press("ArrowDown")
    assert NASTY in page.evaluate(focused)
    page.keyboard.press("End")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused).startswith("broken.mp4")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#list')") is None
    page.locator("#events button").first.focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    assert visit.seconds() == 5.0
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused).startswith("Church bell")
    assert page.locator("#events button[tabindex='0']").count() == 1


def test_a_portrait_video_without_events_shows_that(browser: "Browser", tmp_path: Path) -> None:
    make_video(tmp_path / "tall.webm", 2.0, size=(48, 96))
    write_page([page_video(tmp_path / "tall.webm", (), 2.0, 2)], tmp_path / "tall.html", title="tall.webm")
    visit = Visit(browser, tmp_path / "tall.html")
    page = visit.ready()
    box = page.locator("#video").bounding_box()
    assert box is not None
    assert box["height"] == pytest.approx(2 * box["width"], rel=0.01)
    assert page.locator("#attention").bounding_box() == box
    assert page.locator("#event-count").inner_text().startswith("None: the network found nothing")
    assert page.locator("#next-event").is_disabled()
    assert visit.complaints == []
    page.context.close()


def test_an_hour_zooms_scrolls_and_seeks(browser: "Browser", tmp_path: Path) -> None:
    events = tuple(Event(f"class {n % 28}", 12.0 * n, 12.0 * n + 4, 0.5) for n in range(300))
    (tmp_path / "hour.webm").write_bytes(b"no video")
    hour = page_video(tmp_path / "hour.webm", events, 3600.0, 3600, (7, 7))
    write_page([hour], tmp_path / "hour.html", title="hour")
    visit = Visit(browser, tmp_path / "hour.html")
    page = visit.page
    page.locator("#notice").wait_for(state="visible")
    assert page.locator("#coarse").inner_text().startswith("Zoomed out, so each bar stands for")
    assert page.locator("#events button").count() == 300
    page.locator("#events button").last.click()
    assert page.locator("#time").inner_text() == "59:48.0 / 1:00:00.0"
    assert page.locator("#what").inner_text() == "59:48–59:49 class 19:"
    for _ in range(9):
        page.keyboard.press("+")
    visit.until("document.getElementById('coarse').innerText === ''")
    scrolled = page.evaluate("document.getElementById('scroll').scrollLeft")
    assert scrolled > 100_000
    playhead, view = page.locator("#playhead").bounding_box(), page.locator("#scroll").bounding_box()
    assert playhead is not None
    assert view is not None
    assert view["x"] <= playhead["x"] <= view["x"] + view["width"]
    # The second half of the audio is five times as loud: at the end the waveform is as high as the row.
    inner = "document.getElementById('waveform').firstChild.shadowRoot.querySelector('.scroll')"
    visit.until(f"Math.abs({inner}.scrollLeft - document.getElementById('scroll').scrollLeft) < 2")
    visit.until(f"{inner}.querySelector('canvas') !== null")
    assert page.evaluate(f"[...{inner}.querySelectorAll('canvas')].every(({{width}}) => width < 20000)")
    page.locator("#class-buttons button", has_text="class 7").click()
    assert page.locator("#events button").count() == 11
    page.keyboard.press("p")
    assert page.locator("#time").inner_text().startswith("57:24.0")
    assert page.evaluate("document.body.scrollWidth <= innerWidth")
    assert visit.complaints == []
    page.context.close()


def test_two_hundred_videos_and_an_hour_open_at_once(browser: "Browser", tmp_path: Path) -> None:
    """Counted in the processor's time, which other programs do not stretch."""
    paths = [tmp_path / f"clip-{number:03}.webm" for number in range(200)]
    for path in paths:
        path.write_bytes(b"no video")
    hour = tuple(Event(f"class {n % 28}", 9.0 * n, 9.0 * n + 4, 0.5) for n in range(400))
    write_page([page_video(path) for path in paths], tmp_path / "many.html", title="many", embed_limit_bytes=0)
    write_page([page_video(paths[0], hour, 3600.0, 3600, (7, 7))], tmp_path / "hour.html", title="hour")
    for name, rows in (("many", 200), ("hour", 1)):
        page = browser.new_page()
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto((tmp_path / f"{name}.html").as_uri())
        assert page.locator("#list li").count() == rows
        metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
        assert metrics["TaskDuration"] < 1.0
        page.locator("#zoom-in").click()
        page.locator("#zoom-in").click()
        wide = page.evaluate("[document.getElementById('wide').clientWidth, document.body.scrollWidth, innerWidth]")
        assert wide[1] <= wide[2]  # only the timeline scrolls
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_every_text_has_contrast(browser: "Browser", folder: Path, scheme: str) -> None:
    visit = Visit(browser, folder / "page.html", viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page = visit.ready()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator("#help > summary").click()
    page.locator("#browser > summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    colours = page.evaluate("""() => {
        const seen = new Set();
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 1;
        const context = canvas.getContext("2d", {willReadFrequently: true});
        const rgb = (...fills) => {
            for (const fill of fills) { context.fillStyle = fill; context.fillRect(0, 0, 1, 1); }
            return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).join();
        };
        for (const element of document.querySelectorAll("body *")) {
            const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
            const style = getComputedStyle(element);
            if (!own || !element.checkVisibility() || style.fontSize === "0px") continue;
            const backgrounds = [];
            for (let at = element; at; at = at.parentElement) backgrounds.unshift(getComputedStyle(at).backgroundColor);
            seen.add(`${rgb(...backgrounds)} ${rgb(style.color)}`);
        }
        return [...seen];
    }""")
    assert len(colours) > 4
    for pair in colours:
        background, text = ([int(part) for part in colour.split(",")] for colour in pair.split())
        assert contrast(background, text) >= 4.5, pair
    page.context.close()
