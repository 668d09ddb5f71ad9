"""Costs, metrics and statistics."""

from ponderttt.evaluation.costs import compute_flops as compute_flops
from ponderttt.evaluation.costs import compute_model_flops as compute_model_flops
from ponderttt.evaluation.metrics import compute_action_statistics as compute_action_statistics
from ponderttt.evaluation.metrics import compute_efficiency_metrics as compute_efficiency_metrics
from ponderttt.evaluation.metrics import compute_pareto_frontier as compute_pareto_frontier
from ponderttt.evaluation.paired import paired_test as paired_test
