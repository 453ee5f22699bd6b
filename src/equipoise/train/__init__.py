"""Runs: a spec that decides the weights, a machine that does not, one loop, folders that survive a crash."""

from equipoise.train import progress as progress
from equipoise.train import quantising as quantising
from equipoise.train import storage as storage
from equipoise.train.experiments import Experiment as Experiment
from equipoise.train.experiments import Staged as Staged
from equipoise.train.experiments import Study as Study
from equipoise.train.experiments import experiments as experiments
from equipoise.train.machine import Machine as Machine
from equipoise.train.machine import parse_duration as parse_duration
from equipoise.train.optimisers import optimizer_names as optimizer_names
from equipoise.train.progress import Progress as Progress
from equipoise.train.runner import diverged_before as diverged_before
from equipoise.train.runner import finished as finished
from equipoise.train.runner import train as train
from equipoise.train.schedules import scheduler_names as scheduler_names
from equipoise.train.spec import Run as Run
from equipoise.train.storage import read_weights as read_weights
from equipoise.train.summary import Summary as Summary
