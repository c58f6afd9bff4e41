"""Contracts that methods, objectives, views, encoders and protocols must keep, also yours.

    from coview.testing import check_method
    check_method(my_method)

Each ``check_*`` runs all checks of its kind and raises AssertionError with the names and messages
of the failed ones. ``*_CHECKS`` are the single checks, for one test each:

    @pytest.mark.parametrize("check", METHOD_CHECKS)
    def test_my_method(check):
        check(my_method)
"""

from coview.testing.encoders import ENCODER_CHECKS, check_encoder
from coview.testing.methods import METHOD_CHECKS, check_method
from coview.testing.objectives import OBJECTIVE_CHECKS, check_objective
from coview.testing.protocols import PROTOCOL_CHECKS, check_protocol, example_benchmark
from coview.testing.views import VIEW_CHECKS, check_views

__all__ = [
    "ENCODER_CHECKS", "METHOD_CHECKS", "OBJECTIVE_CHECKS", "PROTOCOL_CHECKS", "VIEW_CHECKS",
    "check_encoder", "check_method", "check_objective", "check_protocol", "check_views",
    "example_benchmark",
]  # fmt: skip
