"""Experiments of the papers, one package a paper: ``experiments.py``, ``published.toml`` and, where needed, figures."""

from equipoise.papers.catalogue import load_all as load_all
from equipoise.papers.catalogue import published as published
from equipoise.papers.published import Published as Published
from equipoise.papers.studies import SideBySide as SideBySide
