"""From record sets to a published generation of the response table."""
