"""A limit on tokens and cost that calls under way cannot exceed: room is set aside before a call is made.

A call that does not fit waits while others are under way, since they mostly take less than was set aside for them.
"""

import threading

from rsdata.captions.llm.store import Tokens
from rsdata.errors import CaptionError
from rsdata.recipe import ModelBudget


class BudgetSpent(CaptionError):
    """The next call might exceed the budget."""


class Budget:
    """What may still be used; any thread may ask."""

    def __init__(self, limits: ModelBudget, spent: Tokens = Tokens()) -> None:  # noqa: B008 (it cannot change)
        """Begin with what was spent before."""
        self.limits = limits
        self._spent = spent
        self._aside = Tokens()
        self._under_way = 0
        self._change = threading.Condition()

    @property
    def spent(self) -> Tokens:
        return self._spent

    def cost(self, tokens: Tokens) -> float:
        """What tokens cost, in the currency of the prices."""
        return (tokens.input * self.limits.input_price + tokens.output * self.limits.output_price) / 1e6

    def set_aside(self, most: Tokens) -> None:
        """Keep room for a call; wait for others to end if there is none.

        Raises: BudgetSpent if there is no room though no other call is under way.
        """
        with self._change:
            while not self._fits(most):
                if not self._under_way:
                    raise BudgetSpent(self._refusal(most), spent=self._spent, needed=most)
                self._change.wait()
            self._aside += most
            self._under_way += 1

    def settle(self, most: Tokens, used: Tokens) -> None:
        """Say what a call took in the end."""
        with self._change:
            self._aside -= most
            self._spent += used
            self._under_way -= 1
            self._change.notify_all()

    def _fits(self, most: Tokens) -> bool:
        total = self._spent + self._aside + most
        tokens, cost = self.limits.tokens, self.limits.cost
        return (tokens is None or total.input + total.output <= tokens) and (cost is None or self.cost(total) <= cost)

    def _refusal(self, most: Tokens) -> str:
        spent, asked = self._spent, most.input + most.output
        said = f"{spent.input + spent.output:,} tokens"
        limit = f"{self.limits.tokens:,} tokens" if self.limits.tokens is not None else ""
        if self.limits.cost is not None:
            said += f" that cost {self.cost(spent):.4g}"
            limit += f"{' and ' if limit else ''}a cost of {self.limits.cost:.4g}"
        return (
            f"the budget of {limit} is spent: {said} were used, and the next call may take {asked:,}; "
            "what was answered is kept, raise `captions.llm.budget` to go on"
        )
