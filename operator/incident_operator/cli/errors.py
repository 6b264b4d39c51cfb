"""Why a command could not do what it was asked, and what to type instead."""


class CommandError(Exception):
    """The message is one line; `hint` says what to do, in one line or several."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
