"""Measures of what a rule does: angles, norms, activity, weights, learning curves; and statistics over seeds."""

from equipoise.measure.alignment import Alignment as Alignment
from equipoise.measure.alignment import alignment as alignment
from equipoise.measure.alignment import angle as angle
from equipoise.measure.catalogue import Measure as Measure
from equipoise.measure.catalogue import Product as Product
from equipoise.measure.catalogue import measures as measures
from equipoise.measure.catalogue import product as product
from equipoise.measure.cost import step_cost as step_cost
from equipoise.measure.embedding import embed as embed
from equipoise.measure.embedding import hidden_activity as hidden_activity
from equipoise.measure.embedding import separation as separation
from equipoise.measure.slowness import Slowness as Slowness
from equipoise.measure.slowness import slowness as slowness
from equipoise.measure.watching import Watch as Watch
from equipoise.measure.watching import watch as watch
from equipoise.measure.weights import Comparison as Comparison
from equipoise.measure.weights import Fit as Fit
from equipoise.measure.weights import compare_fits as compare_fits
from equipoise.measure.weights import excess_kurtosis as excess_kurtosis
from equipoise.measure.weights import fit_half_normal as fit_half_normal
from equipoise.measure.weights import fit_lognormal as fit_lognormal
from equipoise.measure.weights import fit_normal as fit_normal
from equipoise.measure.weights import fit_student_t as fit_student_t
from equipoise.measure.weights import positive_share as positive_share
from equipoise.measure.weights import weight_statistics as weight_statistics
