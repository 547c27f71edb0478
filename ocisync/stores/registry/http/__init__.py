"""HTTP to registries: one visible path of a request, from its slot to its status. Read transport, then exchange."""
