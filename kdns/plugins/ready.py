"""`ready`: where the process says over HTTP whether it has what it needs to answer."""

from __future__ import annotations

from kdns.plugins.address import check_address
from kdns.plugins.plugin import Setup

DEFAULT_ADDRESS = ":8181"
MONITORS = {"until-ready": False, "continuously": True}


def setup(setup: Setup) -> None:
    """`ready [ADDRESS] { monitor until-ready|continuously }`, once per block."""
    directive = setup.directive
    address, continuously = DEFAULT_ADDRESS, False
    for _ in directive.only_occurrence():
        if (given := directive.optional_arg()) is not None:
            address = check_address(given)
        while directive.next_block():
            if directive.val != "monitor":
                raise directive.unknown_property(("monitor",))
            arguments = directive.remaining_args()
            if len(arguments) != 1:
                raise directive.arg_error()
            if arguments[0] not in MONITORS:
                raise directive.error(
                    f"monitor type '{arguments[0]}' not supported", hint=f"expected {' or '.join(MONITORS)}"
                )
            continuously = MONITORS[arguments[0]]
    ready = setup.surroundings.ready
    ready[address] = ready.get(address, False) or continuously
