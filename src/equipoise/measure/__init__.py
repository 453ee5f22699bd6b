"""Measures of what a rule does: alignment with the gradient, and statistics over seeds."""

from equipoise.measure.alignment import Alignment as Alignment
from equipoise.measure.alignment import alignment as alignment
from equipoise.measure.alignment import angle as angle
from equipoise.measure.cost import step_cost as step_cost
