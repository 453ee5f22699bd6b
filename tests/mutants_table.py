"""Every sabotage of ``python -m tests.mutants``, gathered from ``sabotages/``, one file a part of the package."""

from tests.sabotages import (
    balance_command,
    balance_graph,
    balance_training,
    cli,
    convert,
    data,
    errata,
    exhibits,
    ground,
    measure,
    models,
    papers,
    pepita,
    rules,
    sweep,
    train,
)

MUTANTS = (
    *ground.MUTANTS,
    *data.MUTANTS,
    *rules.MUTANTS,
    *pepita.MUTANTS,
    *measure.MUTANTS,
    *train.MUTANTS,
    *sweep.MUTANTS,
    *models.MUTANTS,
    *papers.MUTANTS,
    *errata.MUTANTS,
    *exhibits.MUTANTS,
    *cli.MUTANTS,
    *convert.MUTANTS,
    *balance_command.MUTANTS,
    *balance_graph.MUTANTS,
    *balance_training.MUTANTS,
)
