"""The pictures of a page: truly as wide as asked, and a page that is wider than the screen fails.

A failure would hide that nobody ever saw the page as a phone shows it.
"""

import shutil

import pytest
from scripts import screenshot

HEAD = '<!DOCTYPE html><meta name="viewport" content="width=device-width"><style>body{margin:0}</style>'
needs_chromium = pytest.mark.skipif(not any(map(shutil.which, screenshot.NAMES)), reason="chromium is not installed")


def test_without_chromium_one_line_says_what_to_do(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert screenshot.main([str(tmp_path / "page.html")]) == 2
    assert "apt-get install chromium" in capsys.readouterr().err


@needs_chromium
def test_without_a_page_one_line_says_so(tmp_path, capsys) -> None:
    assert screenshot.main([str(tmp_path / "page.html")]) == 2
    assert "no page" in capsys.readouterr().err


@needs_chromium
@pytest.mark.slow
def test_pictures_are_as_wide_as_the_screen_and_as_tall_as_the_page(tmp_path) -> None:
    from matplotlib.image import imread

    page = tmp_path / "page.html"
    # A band that covers the whole width, green only where the page is laid out for exactly 375 px.
    page.write_text(
        HEAD + "<style>div{height:1234px;background:rgb(0,0,255)}@media(width:375px){div{background:rgb(0,255,0)}}"
        "</style><div></div>"
    )
    assert screenshot.main([str(page), "--out", str(tmp_path / "out")]) == 0
    narrow, wide = (imread(tmp_path / "out" / f"page-{width}.png") for width in (375, 1280))
    assert narrow.shape[:2] == (2 * 1234, 2 * 375)
    assert wide.shape[:2] == (2 * 1234, 2 * 1280)
    assert (narrow[..., :3] == (0, 1, 0)).all()
    assert (wide[..., :3] == (0, 0, 1)).all()


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('<div style="width:400px">wide</div>', 1),
        ('<div style="overflow:auto"><div style="width:4000px">scrolls</div></div>', 0),
        ('<svg width="100%" viewBox="0 0 10 10" overflow="visible"><rect x="5" width="20" height="2"/></svg>', 1),
    ],
)
def test_a_page_wider_than_the_screen_fails(tmp_path, capsys, body: str, code: int) -> None:
    page = tmp_path / "page.html"
    page.write_text(HEAD + body)
    assert screenshot.main([str(page)]) == code
    assert ("on a screen of 375 px" in capsys.readouterr().err) == bool(code)
