"""The Corefile: text to server blocks. No directive is known here; their setups read tokens through a `Dispenser`."""

from kdns.corefile.dispenser import Dispenser
from kdns.corefile.duration import format_duration, parse_duration
from kdns.corefile.keys import Listener, ServerKey, check_overlaps, expand_zone, parse_keys, syntax_warning
from kdns.corefile.lexer import Token, decode, lex
from kdns.corefile.parser import ServerBlock, default_corefile, parse
from kdns.corefile.reload_hash import reload_hash

__all__ = [
    "Dispenser",
    "Listener",
    "ServerBlock",
    "ServerKey",
    "Token",
    "check_overlaps",
    "decode",
    "default_corefile",
    "expand_zone",
    "format_duration",
    "lex",
    "parse",
    "parse_duration",
    "parse_keys",
    "reload_hash",
    "syntax_warning",
]
