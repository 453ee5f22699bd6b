"""Populations: many networks of one architecture, trained as one batched computation."""

from equipoise.population.alike import LINES as LINES
from equipoise.population.alike import Refused as Refused
from equipoise.population.buckets import LIMIT as LIMIT
from equipoise.population.buckets import buckets as buckets
from equipoise.population.buckets import by_width as by_width
from equipoise.population.population import Population as Population
from equipoise.population.training import train as train
