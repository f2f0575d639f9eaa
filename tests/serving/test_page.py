"""The page in a real Chromium: what a person drops, sees, moves and takes away."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from visiting import MISSING, Person, Server, person, wait_for

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
RESULT = "Käse (1) #2_x4.png"
WIDTH = "return document.documentElement.scrollWidth"


def test_the_download_is_what_the_command_writes(
    looking: Person, server: Server, photograph: Path
) -> None:
    assert looking.download(RESULT) == server.expected(photograph)


def test_nobody_else_is_asked(looking: Person, server: Server) -> None:
    asked = looking.asked_for()
    assert any(url.endswith("before.webp") for url in asked)
    others = [url for url in asked if not url.startswith(server.url)]
    assert not [url for url in others if url.startswith(("http", "ws"))]


def test_the_slider_moves_between_before_and_after(looking: Person) -> None:
    from selenium.webdriver import ActionChains

    picture = looking.pictures()[0]
    looking.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", picture)
    before = _seen(picture)
    right = picture.size["width"] // 8
    drag = ActionChains(looking.driver).click_and_hold(looking.find(".outer")[0])
    drag.move_by_offset(right, 0).move_by_offset(right, 0).release().perform()
    after = _seen(picture)
    changed = np.abs(before - after).mean((0, 2))
    width = len(changed)
    assert changed[width * 5 // 8 : width * 11 // 16].mean() > 1
    assert max(changed[: width * 3 // 8].mean(), changed[width * 7 // 8 :].mean()) < 0.5


def _seen(element: Any) -> npt.NDArray[np.float32]:
    picture = Image.open(BytesIO(element.screenshot_as_png))
    return np.asarray(picture.convert("RGB"), np.float32)


def test_a_setting_of_the_dial_is_that_of_the_command(
    visitor: Person, server: Server, photograph: Path
) -> None:
    visitor.choose("Model or checkpoint", "mini-w8a8")
    visitor.type("Realism", "1")
    visitor.drop(photograph)
    visitor.press("Upscale")
    options = ("--checkpoint", "mini-w8a8", "--realism", "1")
    assert visitor.download(RESULT) == server.expected(photograph, *options)


def test_another_place_is_looked_at_pixel_by_pixel(visitor: Person, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((200, 48)).save(tmp_path / "wide.png")
    visitor.drop(tmp_path / "wide.png")
    visitor.press("Upscale")
    visitor.wait_for_pictures()
    visitor.press("At pixels")
    shown = wait_for(visitor.pictures)[0]
    assert wait_for(lambda: shown.get_property("naturalWidth")) == 640
    assert shown.get_property("naturalHeight") == 192
    visitor.type("From the left", "100")
    # For a moment there are none.
    wait_for(lambda: [it for it in visitor.pictures() if "/160-0-" in it.get_attribute("src")])


def test_one_of_several_is_no_photograph(visitor: Person, photograph: Path, tmp_path: Path) -> None:
    """The others are made all the same, and a message is text, whatever the name is."""
    hostile = tmp_path / "<img src=x onerror='document.title=1'>.jpg"
    hostile.write_text("no photograph")
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(photograph.read_bytes())
    visitor.drop(photograph, hostile, copy)
    visitor.press("Upscale")
    said = wait_for(visitor.messages)
    assert said == [f"{hostile.name}: not an image file that can be read"]
    assert visitor.driver.title == "passionsr"
    for name in (RESULT, "copy_x4.png"):
        assert visitor.find(f"a[download='{name}']")
    visitor.choose("Shown", RESULT)


def test_alone_it_is_an_error(visitor: Person, tmp_path: Path) -> None:
    visitor.press("Upscale")
    wait_for(lambda: visitor.messages() == ["drop a photograph first"])
    (tmp_path / "photo.jpg").write_text("no photograph")
    visitor.drop(tmp_path / "photo.jpg")
    visitor.press("Upscale")
    expected = "photo.jpg: not an image file that can be read"
    wait_for(lambda: expected in visitor.messages())
    assert not visitor.pictures()


def test_two_people_at_once(
    visitor: Person, server: Server, photograph: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    with Image.open(photograph) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other)
    with person(tmp_path / "second") as second:
        second.open(server.url)
        visitor.drop(photograph)
        second.drop(other)
        visitor.press("Upscale")
        second.press("Upscale")
        results = (visitor.download(RESULT), second.download("other_x4.png"))
    assert results == (server.expected(photograph), server.expected(other))


def _grey(path: Path, width: int, height: int) -> Path:
    Image.new("RGB", (width, height), "grey").save(path, quality=50)
    return path


def test_30_megapixels_are_more_than_this_server_takes(visitor: Person, tmp_path: Path) -> None:
    visitor.drop(_grey(tmp_path / "large.jpg", 6000, 5000))
    visitor.press("Upscale")
    assert wait_for(visitor.messages) == [
        "large.jpg: too large (6000×5000 px; here at most 29.0 megapixels can be upscaled)"
    ]


def test_28_megapixels_are_worked_on_until_stopped_and_the_queue_has_an_end(
    visitor: Person, looking: Person, server: Server, tmp_path: Path, photograph: Path
) -> None:
    from gradio_client import Client, handle_file
    from gradio_client.utils import QueueError

    visitor.drop(_grey(tmp_path / "large.jpg", 6000, 4666))
    visitor.press("Upscale")
    wait_for(lambda: visitor.find(".progress-bar"))
    # Who waits and stops has nothing made, when the turn comes.
    looking.press("Upscale")
    wait_for(lambda: [each for each in looking.find(".progress-text") if "queue" in each.text])
    looking.press("Stop")
    before = [path for path in server.files() if path.name == RESULT]
    client = Client(server.url, analytics_enabled=False, verbose=False)
    photo = handle_file(str(photograph))
    waiting = client.submit(photo, api_name="/upscale")
    wait_for(lambda: waiting.status().rank is not None)
    with pytest.raises(QueueError, match="Queue is full"):
        client.predict(photo, api_name="/upscale")
    visitor.press("Stop")
    assert wait_for(visitor.messages) == ["stopped"]
    assert Path(waiting.result()).read_bytes() == server.expected(photograph)
    assert wait_for(looking.messages) == ["stopped"]
    assert set(before) <= set(server.files())
    assert not [path for path in server.files() if path.name == "large_x4.png"]


def test_files_go_when_the_page_is_closed(
    visitor: Person, server: Server, photograph: Path
) -> None:
    before = set(server.files())
    visitor.drop(photograph)
    visitor.press("Upscale")
    visitor.wait_for_pictures()
    assert RESULT in {path.name for path in set(server.files()) - before}
    visitor.driver.get("about:blank")
    wait_for(lambda: RESULT not in {path.name for path in set(server.files()) - before})


def test_everything_fits_a_telephone(server: Server, photograph: Path, tmp_path: Path) -> None:
    with person(tmp_path / "phone", telephone=True) as visitor:
        visitor.open(server.url)
        assert visitor.driver.execute_script(WIDTH) <= 390
        visitor.drop(photograph)
        visitor.press("Upscale")
        visitor.wait_for_pictures()
        assert visitor.driver.execute_script(WIDTH) <= 390
        # An ellipsis is where text is wider than its place.
        cut = "return [...document.querySelectorAll('.filename, .filename *')].filter("
        cut += "each => each.scrollWidth > Math.max(each.clientWidth, each.offsetWidth)).length"
        assert visitor.driver.execute_script(cut) == 0
        names = [each.text.replace(" .", ".") for each in visitor.find(".filename")]
        assert RESULT in names
        assert min(each.location["x"] for each in visitor.find("button, input, img")) >= 0
