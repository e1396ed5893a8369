"""Our metrics beside empyrical-reloaded's and quantstats' on the same made returns. Run by hand:

    python -m venv /tmp/peers && /tmp/peers/bin/pip install empyrical-reloaded==0.7.1 quantstats==0.0.86
    /tmp/peers/bin/python tests/peers/metrics.py > tests/peers/metrics.json

tests/engine/test_metrics_of_peers.py holds us to what it printed. Neither library is a dependency of ours.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.peers.made import CASES, made

warnings.simplefilter("ignore")


def main() -> None:
    import empyrical as ep
    import quantstats.stats as qs

    found = {}
    for name, case in CASES.items():
        days, returns, market = made(**case)
        r, b = pd.Series(returns, index=days), pd.Series(market, index=days)
        year = case["year"]
        found[name] = {
            "empyrical": {
                "total_return": ep.cum_returns_final(r),
                "cagr_of_returns": ep.annual_return(r, annualization=year),
                "volatility": ep.annual_volatility(r, annualization=year),
                "sharpe": ep.sharpe_ratio(r, annualization=year),
                "sortino": ep.sortino_ratio(r, annualization=year),
                "downside_deviation": ep.downside_risk(r, annualization=year),
                "omega": ep.omega_ratio(r, annualization=year),
                "max_drawdown": ep.max_drawdown(r),
                "var_95": ep.value_at_risk(r, cutoff=0.05),
                "cvar_95": ep.conditional_value_at_risk(r, cutoff=0.05),
                "tail_ratio": ep.tail_ratio(r),
                "alpha": ep.alpha(r, b, annualization=year),
                "beta": ep.beta(r, b),
                "excess_sharpe_daily": ep.excess_sharpe(r, b),
            },
            "quantstats": {
                "total_return": qs.comp(r),
                "volatility": qs.volatility(r, periods=year),
                "sharpe": qs.sharpe(r, periods=year),
                "sortino": qs.sortino(r, periods=year),
                "omega": qs.omega(r, periods=year),
                "max_drawdown": qs.max_drawdown(r),
                "ulcer_index_by_n_less_1": qs.ulcer_index(r),
                "tail_ratio": qs.tail_ratio(r),
                "skew": qs.skew(r),
                "kurtosis": qs.kurtosis(r),
                "best_day": qs.best(r),
                "worst_day": qs.worst(r),
                "beta": qs.greeks(r, b, periods=year)["beta"],
                "r_squared": qs.r_squared(r, b),
                "information_ratio_daily": qs.information_ratio(r, b),
                "treynor_of_total_return": qs.treynor_ratio(r, b, periods=year),
                "psr_as_they_do": qs.probabilistic_sharpe_ratio(r, periods=year),
            },
        }
    json.dump(found, sys.stdout, indent=2, default=float)
    print()


if __name__ == "__main__":
    main()
