"""Real servers for the tests, and the faults between them and ocisync. None of this uses ocisync's own code."""
