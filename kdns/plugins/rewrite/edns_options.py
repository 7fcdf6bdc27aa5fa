"""From the words of `rewrite edns0` lines to rules."""

from __future__ import annotations

from kdns.dns.codes import EdnsOption
from kdns.errors import CorefileError
from kdns.plugins.go_numbers import parse_uint, quoted
from kdns.plugins.rewrite.edns import VARIABLES, Action, Data, EdnsRule, constant, subnet

MAX_IPV4_BITS, MAX_IPV6_BITS = 32, 128

_CODES = {"nsid": EdnsOption.NSID, "subnet": EdnsOption.CLIENT_SUBNET}  # of the kinds that are for one option


def edns_rule(stops: bool, arguments: list[str]) -> EdnsRule:
    """`local|nsid|subnet set|append|replace|unset ... [revert]`. Raises CorefileError."""
    if len(arguments) < 2:
        raise CorefileError("too few arguments for an EDNS0 rule")
    kind, action_text, words = arguments[0].lower(), arguments[1].lower(), arguments[2:]
    try:
        action = Action(action_text)
    except ValueError as error:
        raise CorefileError(f"invalid action: {quoted(action_text)}") from error
    if action is Action.UNSET:
        return _unset_rule(stops, kind, words)
    if words and words[-1] == "revert":
        words = words[:-1]
    match kind:
        case "local":
            if len(words) != 2:
                raise CorefileError("EDNS0 local rules require three or four args")
            return EdnsRule(stops, action, _number(words[0], 16), _local_data(words[1]))
        case "nsid":
            if words:
                raise CorefileError("EDNS0 NSID rules can accept no more than one arg")
            return EdnsRule(stops, action, _CODES[kind], constant(b""))
        case "subnet":
            if len(words) != 2:
                raise CorefileError("EDNS0 subnet rules require three or four args")
            bits = _bits(words[0], MAX_IPV4_BITS, "IPv4"), _bits(words[1], MAX_IPV6_BITS, "IPv6")
            return EdnsRule(stops, action, _CODES[kind], subnet(*bits))
    raise CorefileError(f"invalid rule type {quoted(kind)}")


def _unset_rule(stops: bool, kind: str, words: list[str]) -> EdnsRule:
    if kind == "local":
        if len(words) != 1:
            raise CorefileError("local unset action requires exactly two arguments")
        return EdnsRule(stops, Action.UNSET, _number(words[0], 16), constant(b""))
    if kind not in _CODES:
        raise CorefileError(f"invalid rule type {quoted(kind)}")
    if words:
        raise CorefileError(f"{kind} unset action requires exactly one argument")
    return EdnsRule(stops, Action.UNSET, _CODES[kind], constant(b""))


def _local_data(text: str) -> Data:
    """Text, octets as `0x...`, or a variable."""
    if text.startswith("{") and text.endswith("}"):
        variable = VARIABLES.get(text[1:-1])
        if variable is not None:
            return variable
        # A label of metadata: no plugin here provides any, so its value is never known.
        if not 0 < text[1:-1].find("/") < len(text) - 3:
            raise CorefileError(f"unsupported variable name {quoted(text)}")
        return lambda asked: None
    if text.startswith("0x"):
        return constant(_octets(text[2:]))
    return constant(text.encode("utf-8", "surrogateescape"))


def _octets(digits: str) -> bytes:
    """hex.DecodeString, and its complaints."""
    for digit in digits:
        if digit not in "0123456789abcdefABCDEF":
            raise CorefileError(f"encoding/hex: invalid byte: U+{ord(digit):04X} {quoted(digit)[1:-1]!r}")
    if len(digits) % 2:
        raise CorefileError("encoding/hex: odd length hex string")
    return bytes.fromhex(digits)


def _bits(text: str, most: int, family: str) -> int:
    bits = _number(text, 16)
    if bits > most:
        raise CorefileError(f"invalid {family} bit mask length {bits}")
    return bits


def _number(text: str, bits: int) -> int:
    try:
        return parse_uint(text, 0, bits)
    except ValueError as error:
        raise CorefileError(str(error)) from error
