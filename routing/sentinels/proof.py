"""How likely it is that chance alone shows so much. Pure."""

from math import exp, lgamma, log, log1p


def tail(k: int, n: int, p: float) -> float:
    """P(X >= k) of a binomial X of ``n`` trials at ``p``, exact but for rounding. For trials whose chances differ and
    are ``p`` on average it is an upper bound when k > np + 1 (W. Hoeffding, Ann. Math. Stat. 27, 1956)."""
    if k <= 0 or p >= 1:
        return 1.0
    if k > n or p <= 0:
        return 0.0
    odds = p / (1 - p)
    term = exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(p) + (n - k) * log1p(-p))
    found = 0.0
    for i in range(k, n + 1):
        found += term
        term *= (n - i) / (i + 1) * odds
        if i > n * p and term < found * 1e-17:
            break
    return min(found, 1.0)
