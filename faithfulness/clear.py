"""When the truth of a transcript is clear. Imports nothing."""

CLEAR_LOW, CLEAR_HIGH = 0.15, 0.85  # shares of donors up to which, and from which, nearly all agree
