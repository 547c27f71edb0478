"""Configurations of other mirroring tools, written as ours."""
