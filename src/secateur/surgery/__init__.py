"""Carrying a plan out on a module: parameters are cut, attributes follow, and both can be undone."""
