"""Synaptic balance: rescale the units of a homogeneous network so that its norm is the smallest for its function."""

from equipoise.balance.costs import Lp as Lp
from equipoise.balance.costs import Mixture as Mixture
from equipoise.balance.report import BalanceReport as BalanceReport
from equipoise.balance.report import Deficit as Deficit
from equipoise.balance.solve import balance_ as balance_
from equipoise.balance.solve import deficit as deficit
