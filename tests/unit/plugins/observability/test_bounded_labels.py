"""Ten thousand tenants make no new series."""

from __future__ import annotations

from uuid import UUID

import pytest

from plugins.contract.principal import KeyId, Principal, TenantId
from plugins.observability.meter import PrometheusMeter
from plugins.observability.requests import ObservedRequest, RequestReport
from plugins.observability.slow import SlowOperations

N_TENANTS = 10_000
THRESHOLDS_MS = dict.fromkeys(("request", "statement", "transaction", "model", "embedding", "cache", "job"), 1e9)


@pytest.mark.requirement("OBS-4")
def test_ten_thousand_tenants_paths_and_methods_make_no_new_series() -> None:
    """Who calls, from where and what is for the log; metrics count by route, method and status."""
    meter = PrometheusMeter()
    report = RequestReport(meter, SlowOperations(THRESHOLDS_MS))

    def finish(n: int) -> None:
        request = ObservedRequest(
            request_id=f"{n:x}", method=f"METHOD{n}" if n % 2 else "GET", url=f"/p/{n}", remote_address=f"10.0.0.{n}"
        )
        principal = Principal(tenant_id=TenantId(UUID(int=n)), key_id=KeyId(UUID(int=n)), user_id=None)
        route = None if n % 3 else "/v1/models"
        report.finish(request, status=200, route=route, principal=principal, aborted=False)

    for n in range(12):
        finish(n)
    n_series = len(meter.exposition().splitlines())
    for n in range(N_TENANTS):
        finish(n)
    assert len(meter.exposition().splitlines()) == n_series
