"""The configuration: its models, and a loader that reports every error at once.

Import the submodule you need, late: `load` and `models` bring pydantic with them, `template` does not.
"""
