"""Rules: how a network assigns credit. ``rules.make(name, model)`` is the way in."""

from equipoise.rules import alignment as alignment
from equipoise.rules import backprop as backprop
from equipoise.rules import direct as direct
from equipoise.rules import learned as learned
from equipoise.rules import pepita as pepita
from equipoise.rules import symmetric as symmetric
from equipoise.rules import target as target
from equipoise.rules.base import Credit as Credit
from equipoise.rules.base import Options as Options
from equipoise.rules.base import Rule as Rule
from equipoise.rules.base import Step as Step
from equipoise.rules.make import describe as describe
from equipoise.rules.make import make as make
from equipoise.rules.make import names as names
from equipoise.rules.make import options as options
from equipoise.rules.make import register as register
from equipoise.rules.make import registry as registry
