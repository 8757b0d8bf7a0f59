"""`urd.integrations.anomalib` by the name that users know: `from urd.anomalib import Urd`."""

from urd.integrations.anomalib import Urd, UrdNetworks

__all__ = ["Urd", "UrdNetworks"]
