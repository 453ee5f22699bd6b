"""The paper on inhibitory normalisation: circuits that learn to do what layer normalisation does."""
