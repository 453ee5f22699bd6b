"""Exhibits."""

EXHIBITS: dict = {}
