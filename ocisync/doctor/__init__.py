"""The doctor: a published registry as its clients see it. Read probe, observations, checks, remedies, diagnosis."""
