"""Tests of ocisync.content.transfer."""
