"""From Kubernetes objects to record sets: sources of events, the store, and the pure rules that make records."""
