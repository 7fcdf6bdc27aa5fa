"""`health`: where the process says over HTTP that it lives, and how long it lingers before it ends."""

from __future__ import annotations

from kdns.corefile import parse_duration
from kdns.errors import CorefileError
from kdns.plugins.address import check_address
from kdns.plugins.plugin import HealthSettings, Setup

DEFAULT_ADDRESS = ":8080"


def setup(setup: Setup) -> None:
    """`health [ADDRESS] { lameduck DURATION }`."""
    directive = setup.directive
    address, lameduck = DEFAULT_ADDRESS, 0.0
    while directive.next():
        if (given := directive.optional_arg()) is not None:
            address = check_address(given)
        while directive.next_block():
            if directive.val != "lameduck":
                raise directive.unknown_property(("lameduck",))
            arguments = directive.remaining_args()
            if len(arguments) != 1:
                raise directive.arg_error()
            try:
                lameduck = parse_duration(arguments[0])
            except CorefileError as error:
                raise CorefileError(f"unable to parse lameduck duration value: '{arguments[0]}' : {error}") from error
    setup.surroundings.health.append(HealthSettings(address, lameduck))
