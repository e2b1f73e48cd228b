"""The durable order of steps: what comes next for a workload, a pool and a provider."""
