"""A study whose stages do arithmetic: for tests of everything around the stages."""
