"""What the answers of TPC-H are made of, and when two answers are the same.

Strict: whole numbers, decimals, text and dates must be equal, and of the expected kind. Only a
mean or a quotient may differ, in the last digit the engine gives, or in the ninth it computes.
Every query orders its rows totally, so rows are compared in order.
"""

import datetime
import decimal
import math

# PostgreSQL's type of each column; `quotient` is a numeric whose last digits depend on the engine.
COLUMNS = {
    number: types.split()
    for number, types in {
        1: "text text numeric numeric numeric numeric quotient quotient quotient int8",
        2: "numeric text text int8 text text text text",
        3: "int8 numeric date int4",
        4: "text int8",
        5: "text numeric",
        6: "numeric",
        7: "text text numeric numeric",
        8: "numeric quotient",
        9: "text numeric numeric",
        10: "int8 text numeric numeric text text text text",
        11: "int8 numeric",
        12: "text int8 int8",
        13: "int8 int8",
        14: "quotient",
        15: "int8 text text text numeric",
        16: "text text int4 int8",
        17: "quotient",
        18: "text int8 int8 date numeric numeric",
        19: "numeric",
        20: "text text",
        21: "text int8",
        22: "text int8 numeric",
    }.items()
}

RELATIVE_TOLERANCE = 1e-9


def settled(columns: list[str], rows: list[tuple]) -> list[list]:
    """An answer as JSON can hold it without loss; refuses a value of another kind."""
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"{len(row)} columns instead of {len(columns)}")
    return [[settled_value(*pair) for pair in zip(columns, row)] for row in rows]


def settled_value(kind: str, value):
    if value is None:
        return None
    match kind:
        case "text" if isinstance(value, str):
            return value
        case "date" if type(value) is datetime.date:
            return value.isoformat()
        case "int4" | "int8" | "numeric" if type(value) is int:
            return str(value)
        # A sum of whole numbers is a decimal in some engines, and so is PostgreSQL's year.
        case "int4" | "int8" if isinstance(value, decimal.Decimal) and value == int(value):
            return str(int(value))
        case "numeric" if isinstance(value, decimal.Decimal) and value.is_finite():
            text = format(value, "f")
            text = text.rstrip("0").rstrip(".") if "." in text else text
            return "0" if text == "-0" else text
        case "quotient" if isinstance(value, decimal.Decimal) and value.is_finite():
            return [str(value), float(decimal.Decimal(1).scaleb(value.as_tuple().exponent))]
        case "quotient" if type(value) is float and math.isfinite(value):
            return [repr(value), 0.0]
    raise ValueError(f"{value!r} is no {kind}")


def same_value(left, right) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        (one, digit), (other, other_digit) = left, right
        absolute = max(digit, other_digit)
        return math.isclose(float(one), float(other),
                            rel_tol=RELATIVE_TOLERANCE, abs_tol=absolute)
    return left == right


def difference(right: list[list], answer: list[list]) -> str | None:
    """What differs first, if anything does."""
    if len(right) != len(answer):
        return f"{len(answer)} rows instead of {len(right)}"
    for index, (wanted, row) in enumerate(zip(right, answer)):
        if not all(map(same_value, wanted, row)):
            return f"row {index + 1} is {row} instead of {wanted}"
    return None
