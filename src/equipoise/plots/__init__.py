"""Figures in one style: functions that take and return an Axes, and SVG that stands inside a page."""

from equipoise.plots.canvas import figure as figure
from equipoise.plots.canvas import panels as panels
from equipoise.plots.canvas import svg as svg
from equipoise.plots.curves import estimates as estimates
from equipoise.plots.curves import fitted_curves as fitted_curves
from equipoise.plots.curves import learning_curves as learning_curves
from equipoise.plots.distributions import histogram as histogram
from equipoise.plots.distributions import scatter as scatter
from equipoise.plots.joined import joined as joined
from equipoise.plots.layers import angles as angles
from equipoise.plots.layers import bars as bars
from equipoise.plots.layers import images as images
from equipoise.plots.parts import reference_line as reference_line
from equipoise.plots.parts import share_legend as share_legend
from equipoise.plots.series import Point as Point
from equipoise.plots.series import Series as Series
from equipoise.plots.style import LOOKS as LOOKS
from equipoise.plots.style import Look as Look
from equipoise.plots.style import look as look
from equipoise.plots.style import style as style
from equipoise.plots.style import theme_css as theme_css
