"""FLOPs of the products that a function asks for, counted in its jaxpr."""

import math

import jax


def products(jaxpr):
    """FLOPs of the products in a jaxpr: a scan's body as often as it runs, a while's once."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(map(products, jax.core.jaxprs_in_params(equation.params)))
    return total


def multiplied(function, *arguments):
    """FLOPs of the products that `function` asks for, those of dead code too."""
    return products(jax.make_jaxpr(function)(*arguments).jaxpr)
