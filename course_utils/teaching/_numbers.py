"""How a number is written for readers."""


def number_text(number: float, figures: int = 4) -> str:
    """A number with so many significant digits; 60,000 rather than 6e+04."""
    if 1000 <= abs(number) < 1e9:
        text = f"{number:,.{max(0, figures - 4)}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{number:.{figures}g}"
