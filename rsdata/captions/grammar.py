"""Verbs that agree with class names, some of which are plural."""


def is_plural(name: str) -> bool:
    """Whether a class name takes a plural verb: "permanent crops" does, "mixed forest" and "grass" do not.

    What counts is the last word before the first comma: "beaches, dunes, sands" is plural, "transitional woodland, shrub" is not.
    """
    head = name.partition(",")[0].rstrip().lower()
    return head.endswith("s") and not head.endswith("ss")


def verb(name: str, singular: str, plural: str) -> str:
    """The form of a verb that agrees with a class name."""
    return plural if is_plural(name) else singular
