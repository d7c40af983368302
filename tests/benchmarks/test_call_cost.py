"""What a call costs the event loop: which ratio is told, and that a real measurement has both sides."""

from __future__ import annotations

import pytest
from bertbench.serving.call_cost import CallCost, measure_call_cost
from bertbench.serving.findings import call_cost_findings
from bertbench.serving.workload import open_bundle
from servers import PLAIN

pytestmark = pytest.mark.export


def test_the_ratio_is_of_each_rounds_neighbours() -> None:
    """A machine that is slower in one round is slower for both, so rounds are compared before the median is taken."""
    found = CallCost(ours=(300.0, 900.0, 500.0), bare=(100.0, 300.0, 250.0))
    assert found.ratio == 3.0


@pytest.mark.parametrize(("ours", "is_met"), [(140.0, True), (141.0, False)])
def test_the_ratio_is_held_to_its_bound(ours: float, is_met: bool) -> None:
    """1.4 passes."""
    *_, finding = call_cost_findings(CallCost(ours=(ours,), bare=(100.0,)))
    assert finding.met is is_met


@pytest.mark.slow
def test_both_are_measured_in_every_round() -> None:
    """Each call takes time, of ours more than of the bare handler."""
    found = measure_call_cost(open_bundle(PLAIN), rounds=2, calls=100)
    assert len(found.ours) == len(found.bare) == 2
    assert min(found.bare) > 0
    assert max(found.ours) > min(found.bare)
