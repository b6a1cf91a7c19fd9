"""Compare the size of a corpus with the published one."""

from dataclasses import dataclass

HOURS_TOLERANCE = 0.01  # published hours are rounded
ABOUT_TOLERANCE = 0.05  # and some are stated as "about"


@dataclass(frozen=True)
class Size:
    utterances: int
    hours: float
    speakers: int


@dataclass(frozen=True)
class Published:
    """Published size of a part of a corpus; None if not published. about_hours: hours published as
    "about" or "roughly"."""

    utterances: int | None = None
    hours: float | None = None
    speakers: int | None = None
    about_hours: float | None = None

    def __str__(self) -> str:
        parts = (("{:,} utterances", self.utterances), ("{:.2f} h", self.hours),
                 ("about {:g} h", self.about_hours), ("{:,} speakers", self.speakers))
        return ", ".join(form.format(value) for form, value in parts if value is not None)

    def agrees(self, size: Size) -> bool:
        """Counts must be equal; published hours must match within their tolerance."""
        return all((
            self.utterances in (None, size.utterances), self.speakers in (None, size.speakers),
            self.hours is None or abs(size.hours - self.hours) <= HOURS_TOLERANCE * self.hours,
            self.about_hours is None
            or abs(size.hours - self.about_hours) <= ABOUT_TOLERANCE * self.about_hours))


def compare(sizes: list[tuple[str, Size]], published: dict[str, Published]) -> list[str]:
    """Print the size of each part and the published one; return the parts that differ."""
    for name, size in sizes:
        stated = f" (published: {published[name]})" if name in published else ""
        print(f"{name}: {size.utterances:,} utterances, {size.hours:.2f} h, {size.speakers:,} "
              f"speakers{stated}", flush=True)
    return [name for name, size in sizes if name in published and not published[name].agrees(size)]
