"""How calls come to replicas, by the client's own balancing or a proxy, while replicas come, are killed and drain."""
