"""Pure mathematics on tensors: state in, state out; works under ``vmap``, ``compile``, float64 and bfloat16."""

from equipoise.functional.bipu import bipu as bipu
from equipoise.functional.constraints import Interval as Interval
from equipoise.functional.constraints import NonNegative as NonNegative
from equipoise.functional.constraints import NonPositive as NonPositive
from equipoise.functional.constraints import project as project
from equipoise.functional.draws import draw as draw
from equipoise.functional.draws import laws as laws
from equipoise.functional.edits import backward_edits as backward_edits
from equipoise.functional.edits import exact_backward as exact_backward
from equipoise.functional.feedback import feedback_convolution as feedback_convolution
from equipoise.functional.feedback import feedback_linear as feedback_linear
from equipoise.functional.feedback import project_error as project_error
from equipoise.functional.losses import Loss as Loss
from equipoise.functional.losses import as_loss as as_loss
from equipoise.functional.losses import losses as losses
from equipoise.functional.losses import one_hot as one_hot
