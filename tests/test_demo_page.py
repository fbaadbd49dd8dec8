"""The demo in a real browser: pictures and drawings get the answer and the pixels of `predict`, and nothing leaves."""

import base64
import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
import test_browser
from PIL import Image
from test_browser import page
from test_demo import photograph, served

from fashion_lightning import predict
from fashion_lightning.data import photographs, pictures
from fashion_lightning.jobs import demo as job

__all__ = ["page"]
pytestmark = test_browser.pytestmark

DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0)), data = new DataTransfer();
  data.items.add(new File([bytes], name));
  document.dispatchEvent(new EVENT);
}"""
DROPPED = DROP.replace("EVENT", "DragEvent('drop', { dataTransfer: data, cancelable: true })")
PASTED = DROP.replace("EVENT", "ClipboardEvent('paste', { clipboardData: data })")


def painted(page, canvas: str) -> Image.Image:
    address = page.locator(canvas).evaluate("canvas => canvas.toDataURL()")
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


def check_answer(page, path: str) -> None:
    """Waits until the page shows what `predict` says of the picture."""
    [row] = predict.main([path])
    expected = [text for best in row["top"] for text in (best["class"], f"{100 * best['probability']:.1f} %")]
    end = time.monotonic() + 10
    while (shown := page.locator("#classes").inner_text().splitlines()) != expected and time.monotonic() < end:
        page.wait_for_timeout(50)
    assert shown == expected
    seen = np.asarray(painted(page, "#seen").convert("L"))
    assert (seen == photographs.prepare(pictures.opened(Path(path))).image.numpy()).all()


def test_pictures_and_drawings_get_the_answer_of_predict(wardrobe, page):
    Path("photograph.jpg").write_bytes(photograph())
    Path("text.txt").write_text("text")
    said, requested = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    # Listened for from the beginning, since a browser that is not told would show a window.
    page.on("filechooser", lambda chooser: chooser.set_files("photograph.jpg"))
    with served() as port:
        page.goto(f"http://127.0.0.1:{port}")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        check_answer(page, "photograph.jpg")
        left = float(page.locator("#box").evaluate("box => box.style.left").removesuffix("%"))
        garment = photographs.prepare(pictures.opened(Path("photograph.jpg")))
        assert left == pytest.approx(100 * garment.box[0], abs=0.01)

        for event, name in ((DROPPED, "wardrobe/0.png"), (PASTED, "wardrobe/1.png")):
            page.evaluate(event, [name, base64.b64encode(Path(name).read_bytes()).decode()])
            check_answer(page, name)

        Path("large.png").write_bytes(bytes(job.MAX_BYTES + 1))
        page.set_input_files("#file", "large.png")
        page.get_by_text("expected 20 MB or less, got 21 MB").wait_for(state="visible")
        page.set_input_files("#file", "text.txt")
        page.get_by_text("not a picture").wait_for(state="visible")
        assert not page.locator("#classes").is_visible()

        place = page.locator("#drawing").bounding_box()
        page.mouse.move(place["x"] + 80, place["y"] + 60)
        page.mouse.down()
        page.mouse.move(place["x"] + 80, place["y"] + 200, steps=5)
        page.mouse.move(place["x"] + 160, place["y"] + 200, steps=5)
        page.mouse.up()
        painted(page, "#drawing").save("drawing.png")
        check_answer(page, "drawing.png")
        page.get_by_text("Clear").click()
        page.mouse.move(place["x"] - 20, place["y"] + 100)  # begins elsewhere
        page.mouse.down()
        page.mouse.move(place["x"] + 200, place["y"] + 100, steps=5)
        page.mouse.up()
        assert painted(page, "#drawing").convert("L").getextrema() == (255, 255)

        # One answer overtakes another: that of the picture given last counts.
        held = []
        page.route("**/predict", lambda route: route.continue_() if held else held.append(route))
        for name in ("wardrobe/0.png", "wardrobe/1.png"):
            page.set_input_files("#file", name)
        check_answer(page, name)
        with page.expect_response("**/predict"):
            held[0].continue_()
        page.wait_for_timeout(200)
        check_answer(page, name)

        for width in (390, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert said == []
    elsewhere = [url for url in requested if not re.match(rf"(blob:)?http://127\.0\.0\.1:{port}/|data:,$", url)]
    assert (len(requested) > 10, elsewhere) == (True, [])
