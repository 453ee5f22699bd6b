"""Comparisons that no paper has made: every rule, and every circuit, at one budget of tuning."""
