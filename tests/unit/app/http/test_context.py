"""Who calls: never nobody, and the administrator's key has no tenant's data."""

from __future__ import annotations

import pytest

from app.http.context import PRINCIPAL, principal_of, tenant_id_of
from plugins.contract.errors import AuthenticationFailed, PermissionDenied
from plugins.contract.principal import ANONYMOUS, DEFAULT_TENANT_ID, Principal
from unit.app.http.support import bare_request


@pytest.mark.parametrize("left", [None, "admin", {"tenant_id": 1}])
def test_request_without_a_principal_is_refused(left: object) -> None:
    """Forgetting the middleware opens nothing, and neither does something else under its name."""
    request = bare_request(**({} if left is None else {PRINCIPAL: left}))
    with pytest.raises(AuthenticationFailed):
        principal_of(request, None)


def test_authenticated_principal_comes_before_the_anonymous_one() -> None:
    """`anonymous` stands in only where nobody was authenticated."""
    assert principal_of(bare_request(), ANONYMOUS) is ANONYMOUS
    known = Principal(tenant_id=DEFAULT_TENANT_ID)
    assert principal_of(bare_request(**{PRINCIPAL: known}), ANONYMOUS) is known


def test_tenant_comes_from_the_principal_alone() -> None:
    """Defect 4. The administrator belongs to none, and is told what to do."""
    assert tenant_id_of(Principal(tenant_id=DEFAULT_TENANT_ID)) == DEFAULT_TENANT_ID
    with pytest.raises(PermissionDenied, match="POST /api/v1/keys"):
        tenant_id_of(Principal(tenant_id=None, is_platform_admin=True))
