"""The README's Python runs as printed, and its links lead somewhere.

A failure here means that the first thing a user types does not work.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest


def test_the_code_runs_as_printed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
        assert len(block.splitlines()) <= 14
    assert "0 " not in capsys.readouterr().err


def test_every_link_leads_to_a_file(root: Path) -> None:
    for document in [root / "README.md", *sorted((root / "docs").glob("*.md")), root / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if not target.startswith(("http", "mailto")):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_command_named_exists(root: Path) -> None:
    from equipoise.cli import COMMANDS

    text = (root / "README.md").read_text()
    assert set(re.findall(r"equipoise (\w+)[ `]", text.replace("import equipoise as", ""))) - {"as"} <= set(COMMANDS)
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
