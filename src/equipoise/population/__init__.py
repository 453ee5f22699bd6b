"""Populations: many networks of one architecture, trained as one batched computation."""

from equipoise.population.alike import LINES as LINES
from equipoise.population.alike import Refused as Refused
from equipoise.population.population import Population as Population
