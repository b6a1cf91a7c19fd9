"""Markdown tables."""

from collections.abc import Sequence


def table(head: Sequence[object], rows: Sequence[Sequence[object]], left: int = 1,
          pad: bool = False) -> list[str]:
    """Lines of a table whose first ``left`` columns are aligned to the left, others to the right.

    pad: fill cells with spaces, so that columns stand below each other in a terminal.
    """
    cells = [[str(cell).replace("|", "&#124;") for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) if pad else 0 for column in zip(*cells, strict=True)]

    def line(row: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) if i < left else cell.rjust(width)
                                 for i, (cell, width) in enumerate(zip(row, widths, strict=True))
                                 ) + " |"

    rule = [":".ljust(width or 3, "-") if i < left else ":".rjust(width or 3, "-")
            for i, width in enumerate(widths)]
    return [line(cells[0]), line(rule), *map(line, cells[1:])]
