"""Weights that others trained: read in a child without rights, converted once, then a Release like our own.

`importing` makes the release, `film` and `nodules` are the detectors that such releases name as their loader.
"""
