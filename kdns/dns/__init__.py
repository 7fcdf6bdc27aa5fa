"""DNS values: names in wire form, codes, record sets, queries and replies. Pure; no I/O, no clock."""
