"""Sizes in bytes as text."""

KIB = 2**10


def size_text(n_bytes: float) -> str:
    """Return a size with a unit that leaves at most four digits before the point: `1,000 bytes`, `15.3 MiB`, `8.00 GiB`."""
    if n_bytes < KIB:
        return f"{n_bytes:,.0f} bytes"
    for power, unit in enumerate(("KiB", "MiB", "GiB"), 1):
        size = n_bytes / KIB**power
        if size < KIB or unit == "GiB":
            break
    return f"{size:,.2f} {unit}" if unit == "GiB" else f"{size:,.1f} {unit}"
