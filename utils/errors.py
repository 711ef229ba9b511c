"""The errors a user meets, each with the exit code it ends the program with."""


class UserError(Exception):
    """Wrong use or wrong input: a message for the user, never a traceback."""

    exit_code = 2


class ParamsError(UserError):
    """Wrong params: every problem at once."""

    def __init__(self, origin: str, problems: list[tuple[str, str]]) -> None:
        """`problems` holds (path, message) pairs; an empty path concerns the file itself."""
        self.origin, self.problems = origin, problems
        lines = [f"  {path}: {text}" if path else f"  {text}" for path, text in problems]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{origin} has {count}:", *lines]))


class RecordingsFailed(UserError):
    """The work is finished, but recordings failed; the message names them."""

    exit_code = 3


class Stopped(UserError):
    """A named cause (full disk, non-finite loss, out of memory) ended the work; it can be resumed."""

    exit_code = 4


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM arrived and the state is saved; `exit_code` is 130 or 143."""

    def __init__(self, exit_code: int, message: str = "") -> None:
        """`exit_code`: 130 for Ctrl-C, 143 for SIGTERM."""
        self.exit_code = exit_code
        self.hint = f": {message}" if message else ""
        super().__init__(message)
