"""Synaptic balance: rescale the units of a homogeneous network so that its norm is the smallest for its function."""
