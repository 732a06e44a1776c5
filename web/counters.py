"""What has happened so far, for /metrics: counters and histograms out of the totals (postflow/operations/totals.py).

Zeros are said as well where the labels are known: a line that is missing raises no alarm, and an increase counts from it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from postflow import platforms
from postflow.models import DeliveryStatus
from postflow.operations.totals import BOUNDS_S, Total

#: Where a delivery ends, or stops for its person.
OUTCOMES = ("published", "failed", "missed", "attention")
_STEPS = {"preparing": "prepare", "sending": "send"}

Labels = tuple[str, ...]


def families(found: Sequence[Total]) -> Iterator[Metric]:
    moves = [one for one in found if one.what == "move"]
    networks = sorted({*platforms.REGISTRY, *(one.network for one in found if one.network)})
    yield _by_state(moves)
    yield _counter(
        "postflow_outcomes",
        "How often a delivery came to this",
        ("network", "outcome"),
        ((one, (one.network, _to(one))) for one in moves if _to(one) in OUTCOMES),
        [(network, outcome) for network in networks for outcome in OUTCOMES],
    )
    yield _counter(
        "postflow_errors",
        "What networks, or the way to them, did wrong",
        ("network", "kind"),
        ((one, (one.network, one.label)) for one in found if one.what == "error"),
    )
    yield _counter(
        "postflow_token_refreshes",
        "Attempts to refresh an account's access",
        ("network", "outcome"),
        ((one, (one.network, one.label)) for one in found if one.what == "refresh"),
        [(network, outcome) for network in networks for outcome in ("refreshed", "failed")],
    )
    yield _histogram(
        "postflow_lateness_seconds",
        "From the time it was to go out to the request that brought it out",
        ("network",),
        [one for one in found if one.what == "late"],
        lambda one: (one.network,),
        [(network,) for network in networks],
    )
    yield _histogram(
        "postflow_processing_seconds",
        "From a worker's claim to what came of it",
        ("network", "step"),
        [one for one in moves if _from(one) in _STEPS],
        lambda one: (one.network, _STEPS[_from(one)]),
        [(network, step) for network in networks for step in _STEPS.values()],
    )


def _from(move: Total) -> str:
    return move.label.partition(">")[0]


def _to(move: Total) -> str:
    return move.label.partition(">")[2]


def _by_state(moves: Iterable[Total]) -> GaugeMetricFamily:
    """As many as have come to a state and not left it."""
    here = Counter[str]()
    for one in moves:
        here[_to(one)] += one.times
        here[_from(one)] -= one.times
    family = GaugeMetricFamily("postflow_deliveries", "Deliveries by state", labels=["status"])
    for status in DeliveryStatus:
        family.add_metric([status], here[status])
    return family


def _counter(
    name: str,
    text: str,
    labels: Labels,
    counted: Iterable[tuple[Total, Labels]],
    known: Iterable[Labels] = (),
) -> CounterMetricFamily:
    sums = Counter[Labels](dict.fromkeys(known, 0))
    for one, values in counted:
        sums[values] += one.times
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in sums.items():
        family.add_metric(values, count)
    return family


def _histogram(
    name: str,
    text: str,
    labels: Labels,
    measured: Sequence[Total],
    labelled: Callable[[Total], Labels],
    known: Iterable[Labels],
) -> HistogramMetricFamily:
    """Cumulative, as Prometheus has them; a class of a former release counts in each that lies above it."""
    of = {values: list[Total]() for values in known}
    for one in measured:
        of.setdefault(labelled(one), []).append(one)
    family = HistogramMetricFamily(name, text, labels=labels)
    for values, ones in of.items():
        buckets = [
            ("+Inf" if math.isinf(bound) else f"{bound:g}", sum(one.times for one in ones if one.le <= bound))
            for bound in (*BOUNDS_S, math.inf)
        ]
        family.add_metric(values, buckets, sum_value=sum(one.sum_s for one in ones))
    return family
