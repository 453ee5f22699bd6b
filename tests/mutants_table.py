"""Every sabotage of ``python -m tests.mutants``, gathered from ``sabotages/``, one file a part of the package."""

from tests.sabotages import cli, data, ground, measure, rules, sweep, train

MUTANTS = (
    *ground.MUTANTS,
    *data.MUTANTS,
    *rules.MUTANTS,
    *measure.MUTANTS,
    *train.MUTANTS,
    *sweep.MUTANTS,
    *cli.MUTANTS,
)
