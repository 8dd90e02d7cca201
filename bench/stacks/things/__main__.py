"""As many trivial resources as the config says, to measure with."""

import pulumi


class Thing(pulumi.CustomResource):
    """An entry in the state."""

    def __init__(self, name: str, value: str) -> None:
        """Ask for it."""
        super().__init__("bench:index:Thing", name, {"value": value})


for number in range(pulumi.Config().require_int("count")):
    Thing(f"thing-{number}", f"value {number}")
