"""Commands about images: copy, inspect, pack, unpack."""
