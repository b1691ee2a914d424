"""Which solutions and tests of one problem to believe: those that agree (Chen et al. 2022, "CodeT").

Every solution is run with every test. Solutions that pass the same tests are one group; the group with the most solutions times tests
is believed, when at least two different solutions and as many tests are in it. Of its tests those stay that notice a change: a test
that every mutant of a solution passes proves nothing, and one that nothing passes is no test of this problem. What is left has to
be passed whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from codemix_megatron.synthesis.small_mutants import mutants_of

__all__ = ["Agreement", "Passes", "cross_check"]

Passes = Callable[[str, str], bool]  # (program, tests) -> whether the tests have proved it right


@dataclass
class Agreement:
    """What is believed of a problem: indices of solutions and of tests, and why other tests are not."""

    solutions: list[int] = field(default_factory=list)
    tests: list[int] = field(default_factory=list)
    dropped_tests: dict[str, int] = field(default_factory=dict)

    def drop(self, reason: str, count: int) -> None:
        """Count tests that are not believed."""
        if count:
            self.dropped_tests[reason] = self.dropped_tests.get(reason, 0) + count


def cross_check(
    solutions: Sequence[str], tests: Sequence[str], passes: Passes, least_solutions: int = 2, least_tests: int = 2
) -> Agreement:
    """Return what agrees; nothing where too little does. `solutions` are different programs."""
    passed = [passed_by(solution, list(range(len(tests))), tests, passes) for solution in solutions]
    met: set[int] = set()
    met.update(*passed)
    found = Agreement()
    found.drop("passed by nothing", len(tests) - len(met))
    groups = {frozenset(one): [i for i, other in enumerate(passed) if other >= one] for one in passed if one}
    believed = max(groups, key=lambda group: (len(groups[group]) * len(group), len(group), sorted(group)), default=frozenset[int]())
    agreeing = groups.get(believed, [])
    found.drop("passed by too few solutions", len(met - believed))
    if len(agreeing) < least_solutions:
        found.drop("passed by too few solutions", len(believed))
        return found
    noticing = noticing_tests(solutions[agreeing[0]], sorted(believed), tests, passes)
    found.drop("passed by every mutant", len(believed) - len(noticing))
    if len(noticing) >= least_tests:
        found.solutions, found.tests = agreeing, noticing
    else:
        found.drop("too few are left", len(noticing))
    return found


def passed_by(solution: str, indices: list[int], tests: Sequence[str], passes: Passes) -> set[int]:
    """Return the tests a program passes: all at once where it passes all, else by halves."""
    if not indices or passes(solution, "".join(tests[index] for index in indices)):
        return set(indices)
    if len(indices) == 1:
        return set()
    middle = len(indices) // 2
    return passed_by(solution, indices[:middle], tests, passes) | passed_by(solution, indices[middle:], tests, passes)


def noticing_tests(solution: str, indices: list[int], tests: Sequence[str], passes: Passes) -> list[int]:
    """Return the tests that some mutant of a solution fails."""
    unproved, noticing = list(indices), []
    for mutant in mutants_of(solution):
        if not unproved:
            break
        passed = passed_by(mutant, unproved, tests, passes)
        noticing += [index for index in unproved if index not in passed]
        unproved = [index for index in unproved if index in passed]
    return sorted(noticing)
