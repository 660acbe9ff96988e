"""The network: trunk, heads, the file it comes in, and what runs it on tiles."""
