"""The verdict: figures, and every reason why a run is not well."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from chaos.comparing import Findings, compare
from chaos.evidence import Evidence
from chaos.explaining import Attention, attention, untold

#: A run in which hardly anything is out proves nothing. Of what nobody cancelled, so much must be.
MOSTLY = 0.9
#: So much of what was asked of the networks must have been spoilt or delayed; half of that in a small run, where the end,
#: which passes in peace, weighs more.
FAULTED, SMALL = 0.2, 1000


@dataclass
class Verdict:
    evidence: Evidence

    @cached_property
    def found(self) -> Findings:
        return compare(self.evidence)

    @cached_property
    def attention(self) -> list[Attention]:
        return attention(self.evidence)

    @property
    def by_status(self) -> Counter[str]:
        return Counter(row.status for row in self.evidence.rows)

    @property
    def well(self) -> bool:
        return not self.complaints

    @cached_property
    def complaints(self) -> list[str]:
        """Whatever is wrong, a sentence each."""
        evidence, left = self.evidence, self.evidence.left
        return [
            *self.found.twice,
            *self.found.lost,
            *self.found.wrong,
            *([f"{left.deliveries} deliveries are stuck"] if left.deliveries else []),
            *([f"{left.unseen} posts are out twice, and nobody looked again"] if left.unseen else []),
            *([f"{left.jobs} jobs of the queue have no worker and find none"] if left.jobs else []),
            *(f"a person met an error: {said}" for said in self.evidence.surprises),
            *(
                f"{one.row.handle}: “{one.row.text}” is left to a person, and nothing explains it: {untold(evidence, one.row)}"
                for one in self.attention
                if one.because is None
            ),
            *self._proves_little(),
        ]

    def _proves_little(self) -> list[str]:
        """A run must be what was asked for."""
        evidence, plan = self.evidence, self.evidence.plan
        said = []
        if evidence.kills < len(plan.kills) or evidence.restarts < len(plan.restarts):
            said.append(f"only {evidence.kills} kills and {evidence.restarts} restarts")
        said += [f"only {had} {name}" for name, had, wanted in self._troubles() if had < wanted]
        if len(evidence.rows) < plan.asked:
            said.append(f"only {len(evidence.rows)} deliveries")
        if evidence.faulted < (FAULTED if plan.asked >= SMALL else FAULTED / 2):
            said.append(f"only {evidence.faulted:.1%} of the requests were faulted")
        wanted = len(evidence.rows) - self.by_status["cancelled"]
        if self.by_status["published"] < MOSTLY * wanted:
            said.append(f"only {self.by_status['published']} of {wanted} are out")
        return said

    def _troubles(self) -> list[tuple[str, int, int]]:
        """(name, how often it happened, how often it was planned)"""
        evidence, plan = self.evidence, self.evidence.plan
        return [
            ("suspended", evidence.suspended, len(plan.suspensions)),
            ("silences", len(evidence.unheard), len(plan.silences)),
            ("outages", evidence.outages, len(plan.outages)),
            (
                "clock steps",
                len(evidence.steps),
                len(plan.clock_steps) + 2 * sum(bool(one.ahead_s) for one in plan.failovers),
            ),
            ("failovers", evidence.failovers, len(plan.failovers)),
            ("forgotten", evidence.blows.forgotten, len(plan.failovers)),
        ]

    def figures(self) -> dict[str, float]:
        return {
            "deliveries": len(self.evidence.rows),
            "kills": self.evidence.kills,
            "restarts": self.evidence.restarts,
            "faulted": round(self.evidence.faulted, 3),
            "twice": len(self.found.twice),
            "lost": len(self.found.lost),
            "stuck": self.evidence.left.deliveries,
            "attention": len(self.attention),
            "doubled": len(self.found.doubled),
            "incomplete": len(self.found.incomplete),
            **{name: had for name, had, _ in self._troubles()},
        }
