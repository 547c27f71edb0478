"""What every client of the network needs: proxies, the system's certificates, aiohttp's inner parts."""
