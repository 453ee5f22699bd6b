"""Synaptic balance: rescale the units of a homogeneous network so that its norm is the smallest for its function."""

from equipoise.balance.builder import Boundary as Boundary
from equipoise.balance.builder import Builder as Builder
from equipoise.balance.costs import Lp as Lp
from equipoise.balance.costs import Mixture as Mixture
from equipoise.balance.graph import ScalingGraph as ScalingGraph
from equipoise.balance.graph import Units as Units
from equipoise.balance.graph import graph as graph
from equipoise.balance.homogeneous import is_homogeneous as is_homogeneous
from equipoise.balance.report import BalanceReport as BalanceReport
from equipoise.balance.report import Deficit as Deficit
from equipoise.balance.solve import balance_ as balance_
from equipoise.balance.solve import deficit as deficit
from equipoise.balance.sums import UnitSums as UnitSums
from equipoise.balance.tied import chain_scales as chain_scales
from equipoise.balance.training import Balancer as Balancer
from equipoise.balance.training import BalanceStop as BalanceStop
from equipoise.balance.training import SGDLaw as SGDLaw
from equipoise.balance.training import sgd_law as sgd_law
from equipoise.balance.units import balance_unit_ as balance_unit_
from equipoise.balance.units import optimal_scale as optimal_scale
from equipoise.balance.units import scale_unit_ as scale_unit_
