"""Thin modules over ``functional``, and what holds their parameters where they belong."""

from equipoise.nn.bipu import BiPU as BiPU
from equipoise.nn.constraints import constraints_of as constraints_of
from equipoise.nn.constraints import enforce as enforce
from equipoise.nn.constraints import param_groups as param_groups
from equipoise.nn.constraints import project_ as project_
from equipoise.nn.excitatory import ExcitatoryLinear as ExcitatoryLinear
from equipoise.nn.local import LocallyConnected2d as LocallyConnected2d
