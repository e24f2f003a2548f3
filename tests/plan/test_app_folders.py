"""The units that act on an app's folders: as the app's user, on its folders, and with no more than that."""

from __future__ import annotations

from flyted.host.signatures import properties
from flyted.plan.app_folders import erase_unit, folder_of, measure_unit


def test_both_own_the_apps_folders_and_leave_them_closed() -> None:
    """Another mode would open them to everybody."""
    for unit in (erase_unit("a"), measure_unit("a", 5)):
        assert (unit["User"], unit["DynamicUser"]) == ("fa-a", True)
        assert unit["StateDirectory"] == unit["CacheDirectory"] == ["flyted-app-a"]
        assert unit["StateDirectoryMode"] == unit["CacheDirectoryMode"] == 0o700
        assert properties(unit)
    assert folder_of("a") == "/var/lib/private/flyted-app-a"


def test_counting_is_bounded_and_sandboxed() -> None:
    """It reads what an app wrote: without a network, without rights, for some seconds."""
    unit = measure_unit("a", 5)
    assert unit["StandardOutputFileDescriptor"] == 5
    assert unit["PrivateNetwork"] is True
    assert unit["CapabilityBoundingSet"] == 0
    assert unit["ProtectSystem"] == "strict"
    assert 0 < unit["TimeoutStartUSec"] <= 30_000_000
