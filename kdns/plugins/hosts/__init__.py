"""`hosts`: names and addresses from a file in the form of /etc/hosts, and from the Corefile itself."""

from kdns.plugins.hosts.options import setup

__all__ = ["setup"]
