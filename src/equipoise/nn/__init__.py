"""Thin modules over ``functional``, and what holds their parameters where they belong."""

from equipoise.nn.bipu import BiPU as BiPU
from equipoise.nn.constraints import constraints_of as constraints_of
from equipoise.nn.constraints import enforce as enforce
from equipoise.nn.constraints import param_groups as param_groups
from equipoise.nn.constraints import project_ as project_
from equipoise.nn.conversions import ConvertReport as ConvertReport
from equipoise.nn.convert import convert as convert
from equipoise.nn.dale import DaleConv2d as DaleConv2d
from equipoise.nn.dale import DaleLinear as DaleLinear
from equipoise.nn.dann import DANNConv2d as DANNConv2d
from equipoise.nn.dann import DANNLinear as DANNLinear
from equipoise.nn.excitatory import ExcitatoryLinear as ExcitatoryLinear
from equipoise.nn.gradnorm import GradNorm as GradNorm
from equipoise.nn.inorm import INormConv2d as INormConv2d
from equipoise.nn.inorm import INormLinear as INormLinear
from equipoise.nn.invertible import InvertibleConv2d as InvertibleConv2d
from equipoise.nn.invertible import InvertibleLinear as InvertibleLinear
from equipoise.nn.lateral import LateralInhibition as LateralInhibition
from equipoise.nn.lateral import LateralNorm as LateralNorm
from equipoise.nn.local import LocallyConnected2d as LocallyConnected2d
from equipoise.nn.normalise import DetachNorm as DetachNorm
from equipoise.nn.normalise import Normalise as Normalise
from equipoise.nn.onoff import OnOff as OnOff
from equipoise.nn.tonic import Gain as Gain
from equipoise.nn.tonic import Tonic as Tonic
