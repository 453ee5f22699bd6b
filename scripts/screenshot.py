"""Pictures of an HTML page as a phone (375 px) and a desktop (1280 px) show it, and a check that nothing is wider.

    python scripts/screenshot.py PAGE [--out DIR] [--dark]

It needs Debian's chromium (``apt-get install chromium``). A headless window is never narrower than about 500 px,
so the page is shown in an iframe of the exact width. Exit codes: 0, 1 (the page is wider than the screen, or
chromium failed), 2 (no chromium, no such page).
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WIDTHS = (375, 1280)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--allow-file-access-from-files", "--force-device-scale-factor=2"),
)
# Chromium's pictures end at 16384 pixels; at two pixels per unit that is 8192.
TALLEST = 8000
WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<style>html, body {{ margin: 0; overflow: hidden }} iframe {{ border: 0; display: block }}</style>
<iframe src="{source}" width="{width}" height="{height}"></iframe>
<script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const wide = [...page.body.querySelectorAll("*")].filter((e) => {{
    if (e.getBoundingClientRect().right <= {width} + 0.5) return false;
    for (let p = e.parentElement; p; p = p.parentElement)
      if (["auto", "scroll", "hidden", "clip"].includes(getComputedStyle(p).overflowX)) return false;
    return true;
  }});
  const named = wide.slice(0, 5).map((e) => e.tagName.toLowerCase() + (e.className.baseVal ?? e.className));
  document.title = [page.documentElement.scrollWidth, page.documentElement.scrollHeight, named.join(" ")].join("|");
}};
</script>"""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Pictures of an HTML page at 375 and 1280 px.")
    parser.add_argument("page", type=Path, help="the HTML file")
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: beside the page)")
    parser.add_argument("--dark", action="store_true", help="as a reader with a dark theme sees it")
    given = parser.parse_args(argv)
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        return _fail("chromium is missing; install it with: apt-get install chromium", 2)
    if not given.page.is_file():
        return _fail(f"there is no page '{given.page}'; write it first, for example with: make demo", 2)
    folder = given.out or given.page.parent
    folder.mkdir(parents=True, exist_ok=True)
    faults = []
    for width in WIDTHS:
        try:
            faults += _shoot(chromium, given.page.resolve(), folder, width, dark=given.dark)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return _fail(str(error), 1)
    return _fail("; ".join(faults), 1) if faults else 0


def _shoot(chromium: str, page: Path, folder: Path, width: int, *, dark: bool) -> list[str]:
    """Measure the page at ``width``, then picture it at its full height; what sticks out, in words."""
    with tempfile.TemporaryDirectory(prefix="screenshot-") as scratch:
        wrapper = Path(scratch) / "wrapper.html"
        flags = [*FLAGS, f"--user-data-dir={scratch}/profile", "--virtual-time-budget=5000"]
        if dark:
            flags.append("--blink-settings=preferredColorScheme=0")

        def visit(height: int, *more: str) -> str:
            text = WRAPPER.format(source=html.escape(page.as_uri()), width=width, height=height)
            wrapper.write_text(text, encoding="utf-8")
            window = f"--window-size={max(width, 500)},{height}"
            command = [chromium, *flags, window, *more, wrapper.as_uri()]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode != 0:
                raise RuntimeError(f"chromium failed with code {done.returncode}: {done.stderr.strip()[-300:]}")
            return done.stdout

        found = re.search(r"<title>(\d+)\|(\d+)\|(.*?)</title>", visit(900, "--dump-dom"))
        if found is None:
            raise RuntimeError("chromium gave no measurements; is the page valid HTML?")
        wide, tall = int(found[1]), int(found[2])
        theme = "-dark" if dark else ""
        target = folder / f"{page.stem}-{width}{theme}.png"
        raw = Path(scratch) / "picture.png"
        visit(min(tall, TALLEST), f"--screenshot={raw}")
        _crop(raw, target, width)
    sys.stdout.write(f"{target}: {width} x {min(tall, TALLEST)} px, the page is {wide} px wide, {tall} px tall\n")
    if wide > width or found[3]:
        culprits = f" (sticking out: {found[3]})" if found[3] else ""
        return [f"the page is {wide} px wide on a screen of {width} px{culprits}"]
    return []


def _crop(raw: Path, target: Path, width: int) -> None:
    """Cut away what the window has beyond the page (it is at least 500 px wide)."""
    if width >= 500:
        shutil.copyfile(raw, target)
        return
    from matplotlib.image import imread, imsave

    imsave(target, imread(raw)[:, : 2 * width])


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"screenshot: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
