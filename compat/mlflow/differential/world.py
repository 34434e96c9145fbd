"""What the operations so far have made, so that the next ones can use it."""

import random
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from .answers import ask, differences, is_refused_more_clearly
from .sides import Side

FILTERED_METRICS = ["rmse", "loss", "val/loss", "acc at 1", "f-1"]
# A NaN is stored as 0 by MLflow, and found by filters as 0: a metric that can be NaN is ordered by, not filtered.
METRICS = [*FILTERED_METRICS, "sometimes nan"]
PARAMS = ["depth", "rate", "kind of", "a.b"]
TAGS = ["farm", "pen", "stage.x", "mlflow.note.content"]
TEXTS = ["north", "South", "7", "it's", "50%", "a_b", "größe", "", "x, y", "2024-05-12T14:03", 'say "no"']
ALIASES = ["champion", "challenger", "c-1", "Ü_2"]
CLIENT_TIME_MS = 1_600_000_000_000


@dataclass
class Answers:
    """What both sides answered."""

    values: list[Any]

    def __bool__(self) -> bool:
        return all(value is not None for value in self.values)


@dataclass
class World:
    """What there is on both sides."""

    sides: list[Side]
    rng: random.Random
    experiments: list[str] = field(default_factory=lambda: ["0"])
    runs: list[str] = field(default_factory=list)
    logged_models: list[str] = field(default_factory=list)
    # Those that a version was made of.
    registered: set[str | None] = field(default_factory=set)
    # Registered models: how many versions each ever had, and which there are.
    models: dict[str, list[int]] = field(default_factory=dict)
    next_version: dict[str, int] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)
    webhooks: list[str] = field(default_factory=list)
    # How many answers each kind of operation got, and how many of these were errors of both sides.
    asked: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)
    numbers: dict[str, int] = field(default_factory=dict)
    time_ms: int = CLIENT_TIME_MS

    def learn(self, kind: str, ids: list[str]) -> str:
        """A symbol for a new thing."""
        symbol = f"{{{kind}-{self.number(kind)}}}"
        for side, real in zip(self.sides, ids, strict=True):
            side.learn(symbol, real)
        return symbol

    def number(self, kind: str) -> int:
        self.numbers[kind] = self.numbers.get(kind, 0) + 1
        return self.numbers[kind]

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def one(self, things: list[Any]) -> Any:
        return self.rng.choice(things)

    def some(self, things: list[Any], most: int = 3) -> list[Any]:
        return self.rng.sample(things, self.rng.randint(0, min(most, len(things))))

    def tick(self) -> int:
        """A time that no other thing has."""
        self.time_ms += self.rng.randint(1, 5_000)
        return self.time_ms

    def experiment(self) -> str:
        return "987654321" if self.chance(0.03) else self.one(self.experiments)

    def run(self) -> str:
        if not self.runs or self.chance(0.03):
            return self.one(["nope", "0" * 32])
        # The newest are used most, so that some have much.
        return self.one(self.runs[-8:]) if self.chance(0.7) else self.one(self.runs)

    def logged_model(self) -> str:
        if not self.logged_models or self.chance(0.04):
            return "m-" + "0" * 32
        return self.one(self.logged_models)

    def webhook(self) -> str:
        if not self.webhooks or self.chance(0.1):
            return "00000000-0000-0000-0000-000000000000"
        return self.one(self.webhooks)

    def model(self) -> str:
        return "no such model" if not self.models or self.chance(0.04) else self.one(list(self.models))

    def version(self, name: str) -> str:
        versions = self.models.get(name)
        return self.one(["99", "0"]) if not versions or self.chance(0.05) else str(self.one(versions))

    def text(self) -> str:
        return self.one(TEXTS)

    def tags(self) -> dict[str, str]:
        return {key: self.text() for key in self.some(TAGS)}

    def value(self, key: str) -> float:
        special = [float("inf"), float("-inf"), 0.0, -1.0, 1e300, 5e-324]
        special += [] if key in FILTERED_METRICS else [float("nan")] * 6
        return self.one(special) if self.chance(0.2) else round(self.rng.uniform(-2, 2), 2)


Steps = Generator[Any, Answers, None]
REGISTERED: list[tuple[Callable[[World], Steps], float]] = []


def operation(weight: float = 1.0) -> Callable[[Callable[[World], Steps]], Callable[[World], Steps]]:
    """Makes a generator of operations one of those that are drawn, so often in relation to the others."""

    def register(steps: Callable[[World], Steps]) -> Callable[[World], Steps]:
        REGISTERED.append((steps, weight))
        return steps

    return register


def drive(world: World, count: int) -> tuple[int, list[str]]:
    """Puts so many operations to both sides; answers how many failed on both, and all differences."""
    found: list[str] = []
    done = failed = 0
    kinds = [steps for steps, _ in REGISTERED]
    weights = [weight for _, weight in REGISTERED]
    while done < count:
        [kind] = world.rng.choices(kinds, weights)
        steps = kind(world)
        try:
            wanted = next(steps)
            while True:
                answers = [ask(side, wanted) for side in world.sides]
                done += 1
                (theirs, their_form), (ours, our_form) = answers
                is_error = theirs is None and ours is None
                failed += is_error
                world.asked[kind.__name__] += 1
                world.refused[kind.__name__] += is_error
                clearer = is_refused_more_clearly(our_form, their_form)
                different = [] if clearer else differences(our_form, their_form)
                if different:
                    found.append(f"{done} [{kind.__name__}] {wanted}\n    " + "\n    ".join(different[:8]))
                wanted = steps.send(Answers([theirs, ours]))
        except StopIteration:
            pass
    return failed, found
