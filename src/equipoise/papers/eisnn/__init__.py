"""Experiments on deep spiking networks of excitatory and inhibitory cells that do without normalisation (ICLR 2026)."""
