"""Names of curves that MLflow draws against sampling steps."""


def curve_name(name: str, *, is_stochastic: bool) -> str:
    """Of two ladders in one chain each has a curve, also where both have as many steps."""
    return f"{name}_stochastic" if is_stochastic else name
