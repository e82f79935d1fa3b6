"""How far a check is: parts with an expected cost, told as one count."""

from collections.abc import Callable, Mapping

Tell = Callable[[str, int, int], None]


class Meter:
    """Adds up the parts of a check, in passes of one image, and tells the sum.

    >>> meter = Meter({"fine-tuning": 100, "attack": 300}, lambda part, done, total: print(part, done, total))
    >>> meter.tick("fine-tuning", 1, 2)
    fine-tuning 50 400
    >>> meter.tick("attack", 30, 60)
    attack 200 400
    """

    def __init__(self, expected: Mapping[str, int], tell: Tell | None) -> None:
        self.expected = dict(expected)
        self.done = dict.fromkeys(expected, 0)
        self.tell = tell

    def tick(self, part: str, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` of a part are done."""
        size = self.expected.get(part, 0)
        self.done[part] = max(self.done.get(part, 0), size * min(done, total) // max(total, 1))
        if self.tell is not None:
            self.tell(part, sum(self.done.values()), sum(self.expected.values()))

    def of(self, owner: str) -> Tell:
        """A callback for parts of one network: ``linf`` becomes ``dense linf``."""
        return lambda part, done, total: self.tick(f"{owner} {part}", done, total)
