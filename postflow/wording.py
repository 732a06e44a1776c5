"""Numbers in sentences."""


def counted(number: int, thing: str) -> str:
    """ "1 character", "2 characters" """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
