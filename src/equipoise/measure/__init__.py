"""Measures of what a rule does: angles, norms, activity, weights, learning curves; and statistics over seeds."""

from equipoise.measure.alignment import Alignment as Alignment
from equipoise.measure.alignment import alignment as alignment
from equipoise.measure.alignment import angle as angle
from equipoise.measure.catalogue import Measure as Measure
from equipoise.measure.catalogue import Product as Product
from equipoise.measure.catalogue import measures as measures
from equipoise.measure.catalogue import product as product
from equipoise.measure.cost import step_cost as step_cost
from equipoise.measure.watching import Watch as Watch
from equipoise.measure.watching import watch as watch
