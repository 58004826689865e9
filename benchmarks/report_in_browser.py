"""Opens reports in a real browser: no errors, nothing wider than the screen, the runs' numbers, hover and slider work.

    pip install playwright                                                         # and a Chromium, e.g. Debian's `chromium`
    python benchmarks/report_in_browser.py runs/half runs/compare --screenshots docs/pictures
    python benchmarks/report_in_browser.py runs/half runs/front --together both.html

Of searches, comparisons, compressions and fine-tuning, at the widths of a phone and of a desk, light and dark. Writes
`report.html` of every run anew and prints how long that took. Exit code 1 at the first thing that is wrong, also without
playwright or a browser. The suite reads the numbers of the page without one, in `tests/test_report.py`.
"""

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tangle_hf.analysis.trajectories import details
from tangle_hf.errors import readable_errors
from tangle_hf.report.page import write_report
from tangle_hf.report.run_folder import RunFolder, read_run
from tangle_hf.report.several import named, write_reports


WIDTHS = {"phone": 390, "desktop": 1280}
LOOKS = ("light", "dark")
HEIGHT = 1500  # of a screenshot

# Where a point of a figure is on the screen: of the first trace that answers to the pointer, the one in the middle.
POINT = """box => {
  const {xaxis: x, yaxis: y} = box._fullLayout;
  const trace = box._fullData.find(t => t.visible === true && t.type === "scatter" && t.hoverinfo !== "skip"
    && (t.mode !== "lines" || t.line?.width > 2));
  const at = Math.floor(trace.x.length / 2), place = box.getBoundingClientRect();
  return [place.x + x._offset + x.c2p(x.d2c(trace.x[at])), place.y + y._offset + y.c2p(y.d2c(trace.y[at]))];
}"""


def main() -> None:
    """All checks of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument(
        "--together", type=Path, help="file to write about all of them, which are searches, to be checked, too"
    )
    parser.add_argument("--browser", help="a Chromium; default: chromium, google-chrome or chrome of the PATH")
    parser.add_argument("--screenshots", type=Path, help="folder to leave a picture of each page, width and look in")
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
        for folder in arguments.runs:
            run = read_run(folder)
            look_at(started, lambda run=run: write_report(run.folder), run.name,
                    lambda page, run=run: CHECKS[run.kind](page, run), arguments.screenshots)  # fmt: skip
        if arguments.together is not None:
            runs = named([read_run(folder) for folder in arguments.runs])
            look_at(started, lambda: write_reports(arguments.runs, arguments.together), "together",
                    lambda page: check_several(page, runs), arguments.screenshots)  # fmt: skip
        started.close()


def look_at(browser, write: Callable[[], Path], name: str, check: Callable, screenshots: Path | None) -> None:
    """Writes a page and checks it at all widths and in all looks.

    Args:
        browser: The browser.
        write: Writes the page.
        name: Of its screenshots.
        check: What to check beside what all pages have in common; given the page in the browser.
        screenshots: Folder to leave pictures in, or None.
    """
    before = time.perf_counter()
    path = write()
    took, size = time.perf_counter() - before, path.stat().st_size
    print(f"{path}: {size / 1e6:.2f} MB, written in {took:.2f} s")
    for screen, width in WIDTHS.items():
        for look in LOOKS:
            page = browser.new_page(viewport={"width": width, "height": HEIGHT}, color_scheme=look)
            errors = open_page(page, path, width)
            check(page)
            first = page.locator(".picture").first
            if first.count():
                text = page.evaluate("getComputedStyle(document.body).color")
                expect(
                    first.locator("text").first.evaluate("one => getComputedStyle(one).fill") == text,
                    "figures have other letters",
                )
            expect(not errors, f"the browser says: {errors[:3]}")
            if screenshots is not None:
                screenshots.mkdir(parents=True, exist_ok=True)
                page.evaluate("scrollTo(0, 0)")
                page.mouse.move(0, 0)
                page.wait_for_timeout(300)
                page.screenshot(path=screenshots / f"{name}-{screen}-{look}.png")
            page.close()
            print(f"  {screen}, {look}: ok")


def open_page(page, path: Path, width: int) -> list[str]:
    """Opens a page and everything that is folded in it; a list where the browser's complaints will stand."""
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
    return errors


def check_search(page, run: RunFolder) -> None:
    """The losses of a search, and its slider."""
    losses = picture(page, "losses-and-decisions", "losses")
    lines = [line for line in run.metrics if "train_loss" in line]
    expect_near(losses.evaluate("box => box.data[0].y"), [line["train_loss"] for line in lines], "losses")
    expect_hover(page, losses, "step")
    slider = page.locator("#shares .picture").first
    if slider.count() and "shares" in details(run.metrics[0]):
        slider.scroll_into_view_if_needed()
        rail = slider.locator(".slider-rail-touch-rect").bounding_box()
        page.mouse.click(rail["x"] + 2, rail["y"] + rail["height"] / 2)
        page.wait_for_timeout(400)
        shown = " ".join(slider.evaluate("box => box.layout.title.text").replace("<br>", " ").split())
        first = str(run.shown(details(run.metrics[0])["arch"]))
        expect(first.startswith(shown), f"the slider at its start shows {shown!r}, the first step had {first!r}")
    if run.front:
        points = page.locator("#front .picture").first
        drawn = points.evaluate("box => box.data.filter(t => t.name !== 'hand cuts').flatMap(t => t.y)")
        expect_near(sorted(drawn), sorted(point["loss"] for point in run.front["points"]), "points")
        expect_hover(page, points, "cost")


def check_comparison(page, run: RunFolder) -> None:
    """The mean of every net, for each way to train."""
    nets, titles = run.results["nets"], page.locator("#scores h3").all_text_contents()
    expect(bool(titles), "no scores are drawn")
    for title in titles:
        scores = [net[title.removesuffix(", test")] for net in nets]
        means = [score["mean"] for score in scores if isinstance(score, dict) and score["mean"] is not None]
        drawn = picture(page, "scores", title)
        marks = drawn.evaluate("box => box.data.filter(t => t.marker.symbol === 'diamond').map(t => t.y[0])")
        expect_near(marks, means, title)
        expect_hover(page, drawn, nets[0]["net"])


def check_compression(page, run: RunFolder) -> None:
    """The losses of the nets that were tried, and the scores in the table."""
    shown = page.locator("#what-is-left table").first.locator("tbody tr").all_text_contents()
    expect(len(shown) == 1 + 2 * len(run.rows), "another number of nets than the run has")
    tried = page.locator("#what-was-tried .picture").first
    rows = max(run.rows.values(), key=lambda row: row["parameters"])["finalists"]["rows"]
    losses = [loss for row in rows for name, loss in row.items() if name[0].isdigit() and not isinstance(loss, str)]
    drawn = tried.evaluate("box => box.data.flatMap(t => t.y)")
    expect_near(sorted(drawn), sorted(losses), "losses of the nets that were tried")
    expect_hover(page, tried, "step")


def check_finetuning(page, run: RunFolder) -> None:
    """The scores of all trainings."""
    drawn = page.locator("#scores .picture").first
    name = drawn.evaluate("box => box.layout.yaxis.title.text")
    scores = [row[split][name] for row in run.rows.values() for split in ("test", "validation")]
    expect_near(sorted(drawn.evaluate("box => box.data.flatMap(t => t.y)")), sorted(scores), "scores")
    expect_hover(page, drawn, name)


def check_several(page, runs: dict[str, RunFolder]) -> None:
    """The row and the losses of every search."""
    cells = page.locator("#runs tbody tr td:first-child").all_text_contents()
    expect(cells == list(runs), f"the table has {cells}")
    losses = picture(page, "curves", "loss: weights")
    for number, run in enumerate(runs.values()):
        own = [line["train_loss"] for line in run.metrics if "train_loss" in line]
        expect_near(losses.evaluate(f"box => box.data[{number}].y"), own, f"losses of {run.name}")
    expect_hover(page, losses, next(iter(runs)))


CHECKS = {
    "search": check_search,
    "compare": check_comparison,
    "compress": check_compression,
    "finetune": check_finetuning,
}


def picture(page, section: str, title: str):
    """A figure by its title."""
    heading = page.get_by_role("heading", name=title, exact=True)
    return page.locator(f"#{section} figure").filter(has=heading).locator(".picture")


def expect_near(drawn: list[float], wanted: list[float], what: str) -> None:
    """Ends the script unless numbers are equal, as far as a page has their digits."""
    expect(len(drawn) == len(wanted), f"{what}: {len(drawn)} are drawn, the run has {len(wanted)}")
    near = (abs(a - b) <= 1e-3 * max(1, abs(b)) for a, b in zip(drawn, wanted, strict=True))
    expect(all(near), f"{what}: other numbers than the run's")


def expect_hover(page, box, words: str) -> None:
    """Ends the script unless pointing at a point of a figure shows some words."""
    box.scroll_into_view_if_needed()
    page.mouse.move(*box.evaluate(POINT))
    page.wait_for_timeout(300)
    shown = box.locator(".hoverlayer").text_content()
    expect(words in shown, f"pointing at a point shows {shown!r} and not {words!r}")


def expect(holds: bool, otherwise: str) -> None:
    """Ends the script unless something holds."""
    if not holds:
        raise ValueError(otherwise)


if __name__ == "__main__":
    with readable_errors():
        main()
