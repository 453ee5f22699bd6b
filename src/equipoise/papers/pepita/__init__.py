"""Experiments of DellaFerrera and Kreiman (ICML 2022): learning by a second forward pass with modulated input."""
