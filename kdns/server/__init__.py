"""The processes: a supervisor that owns the sockets, an informer that writes the table, workers that answer."""
