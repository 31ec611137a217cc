"""Numbers as they shall be read: no more digits than the error bar supports."""

from __future__ import annotations

import math

__all__ = ["significant", "with_error"]


def with_error(value: float, error: float, digits: int = 2) -> tuple[str, str]:
    """Round a value to the digits that its error bar supports.

    Parameters
    ----------
    value
        The number.
    error
        Its standard error, same unit.
    digits
        Significant digits of the error.

    Returns
    -------
    tuple of str
        Value and error with the same decimals; where the error is not finite or zero, the value
        with four significant digits and an empty string.

    Examples
    --------
    >>> with_error(390.3871, 0.4123)
    ('390.39', '0.41')
    >>> with_error(0.39051, float("nan"))
    ('0.3905', '')
    """
    if not math.isfinite(value):
        return "–", ""
    if not (math.isfinite(error) and error > 1e-12 * abs(value)):  # rounding of the machine is no error bar
        return significant(value), ""
    decimals = digits - 1 - math.floor(math.log10(error))
    # 0.0996 rounds to 0.10, which has one digit more than was asked for
    if float(f"{error:.{digits - 1}e}") >= 10.0 ** (digits - decimals):
        decimals -= 1
    if decimals < 0:
        text = f"{round(value, decimals):.0f}", f"{round(error, decimals):.0f}"
    else:
        text = f"{value:.{decimals}f}", f"{error:.{decimals}f}"
    return text[0].replace("-", "−"), text[1]


def significant(value: float, digits: int = 4) -> str:
    """Write a number with so many significant digits, without an exponent where that is readable.

    Parameters
    ----------
    value
        The number.
    digits
        Significant digits.

    Returns
    -------
    str
        A dash for NaN. Zeros at the end are kept where the number was rounded to them, and left out
        where it is exact.

    Examples
    --------
    >>> significant(0.390512), significant(float("nan")), significant(12345.6)
    ('0.3905', '–', '12346')
    >>> significant(1.03, 2), significant(1.0, 2)
    ('1.0', '1')
    """
    if not math.isfinite(value):
        return "–"
    value += 0.0  # no minus before zero
    if value != 0 and 10 ** (digits - 1) <= abs(value) < 1e9:
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    return text if float(text) == value or "e" in text else f"{value:#.{digits}g}".rstrip(".")
