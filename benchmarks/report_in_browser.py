"""Opens reports in a real browser: no errors, nothing wider than the screen, the run's numbers, hover and slider work.

    pip install playwright                                                         # and a Chromium, e.g. Debian's `chromium`
    python benchmarks/report_in_browser.py runs/half runs/front --screenshots docs/pictures

Writes `report.html` of every run anew and prints how long that took. Exit code 1 at the first thing that is wrong, also without
playwright or a browser. The suite reads the numbers of the page without one, in `tests/test_report.py`.
"""

import argparse
import shutil
import time
from pathlib import Path

from tangle_hf.analysis.trajectories import details, read_metrics
from tangle_hf.errors import readable_errors
from tangle_hf.report.page import write_report
from tangle_hf.space import Architecture


WIDTHS = {"phone": 390, "desktop": 1280}
LOOKS = ("light", "dark")
HEIGHT = 1500  # of a screenshot

# Where a point of a figure is on the screen: its first trace that is drawn and has more than one point.
POINT = """box => {
  const {xaxis: x, yaxis: y} = box._fullLayout;
  const trace = box._fullData.find(t => t.visible === true && t.x.length && t.hoverinfo !== "skip" && t.line?.width > 2);
  const at = Math.floor(trace.x.length / 2), place = box.getBoundingClientRect();
  return [place.x + x._offset + x.d2p(trace.x[at]), place.y + y._offset + y.d2p(trace.y[at])];
}"""


def main() -> None:
    """All checks of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of searches")
    parser.add_argument("--browser", help="a Chromium; default: chromium, google-chrome or chrome of the PATH")
    parser.add_argument("--screenshots", type=Path, help="folder to leave a picture of each run, width and look in")
    arguments = parser.parse_args()
    browser = arguments.browser or next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    if browser is None:
        raise ValueError("there is no Chromium on the PATH; install one, or say where it is with --browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ValueError("playwright drives the browser; install it with: pip install playwright") from None
    with sync_playwright() as drivers:
        started = drivers.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for run in arguments.runs:
            before = time.perf_counter()
            path = write_report(run)
            took, size = time.perf_counter() - before, path.stat().st_size
            print(f"{path}: {size / 1e6:.2f} MB, written in {took:.2f} s")
            for screen, width in WIDTHS.items():
                for look in LOOKS:
                    page = started.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=look)
                    check(page, run, path, width)
                    if arguments.screenshots is not None:
                        arguments.screenshots.mkdir(parents=True, exist_ok=True)
                        page.evaluate("scrollTo(0, 0)")
                        page.mouse.move(0, 0)
                        page.screenshot(path=arguments.screenshots / f"{run.resolve().name}-{screen}-{look}.png")
                    page.close()
                    print(f"  {screen}, {look}: ok")
        started.close()


def check(page, run: Path, path: Path, width: int) -> None:
    """One report at one width.

    Raises:
        ValueError: Something is wrong with it.
    """
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on(
        "request",
        lambda request: (
            errors.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None
        ),
    )
    page.goto(path.resolve().as_uri())
    page.wait_for_function("document.querySelectorAll('.picture.drawn .main-svg').length > 0")
    page.wait_for_timeout(500)
    page.evaluate("document.querySelectorAll('details').forEach(fold => (fold.open = true))")
    page.wait_for_timeout(500)
    expect(page.locator(".picture:not(.drawn)").count() == 0, "a figure was not drawn")
    expect(page.evaluate("document.documentElement.scrollWidth") <= width, f"wider than {width} pixels")
    metrics = read_metrics(run / "metrics.jsonl")
    losses = page.locator("#losses-and-decisions .picture").first
    lines = [line for line in metrics if "train_loss" in line]
    drawn = losses.evaluate("box => box.data[0].y")
    expect(len(drawn) == len(lines), "another number of losses than the run has")
    expect(
        all(abs(a - b["train_loss"]) < 1e-3 for a, b in zip(drawn, lines, strict=True)), "other losses than the run's"
    )
    losses.scroll_into_view_if_needed()
    page.mouse.move(*losses.evaluate(POINT))
    page.wait_for_timeout(300)
    expect("step" in losses.locator(".hoverlayer").text_content(), "pointing at a loss shows nothing")
    slider = page.locator("#shares .picture").first
    if page.locator("#shares").count() and "shares" in details(metrics[0]):
        slider.scroll_into_view_if_needed()
        rail = slider.locator(".slider-rail-touch-rect").bounding_box()
        page.mouse.click(rail["x"] + 2, rail["y"] + rail["height"] / 2)
        page.wait_for_timeout(400)
        shown = " ".join(slider.evaluate("box => box.layout.title.text").replace("<br>", " ").split())
        first = str(Architecture(details(metrics[0])["arch"]))
        expect(first.startswith(shown), f"the slider at its start shows {shown!r}, the first step had {first!r}")
    text = page.evaluate("getComputedStyle(document.body).color")
    expect(
        losses.locator("text").first.evaluate("one => getComputedStyle(one).fill") == text,
        "figures have other letters",
    )
    expect(not errors, f"the browser says: {errors[:3]}")


def expect(holds: bool, otherwise: str) -> None:
    """Ends the script unless something holds."""
    if not holds:
        raise ValueError(otherwise)


if __name__ == "__main__":
    with readable_errors():
        main()
