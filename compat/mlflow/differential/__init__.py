"""Drives the same random operations against a real MLflow server and fishy, and compares every answer."""
