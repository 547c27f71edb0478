"""ocisync keeps container-image mirrors fresh."""

__version__ = "0.1.0"  # a literal, not importlib.metadata: start-up time counts
