"""Our own minimum-norm attack."""

from secateur.attacks.steep.attack import steep as steep

__all__ = ["steep"]
