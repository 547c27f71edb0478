"""Benchmarks: ocisync beside other tools and beside what the servers allow. None of ocisync's code is in them."""
