from e2etts.tables import table


def test_markdown():
    assert table(["set", "WER, %"], [["a|b", 1.5], ["c", "–"]]) == [
        "| set | WER, % |", "| :-- | --: |", "| a&#124;b | 1.5 |", "| c | – |"]


def test_columns_stand_below_each_other():
    assert table(["name", "x", "value"], [["a", "b", "1"]], left=2, pad=True) == [
        "| name | x | value |", "| :--- | : | ----: |", "| a    | b |     1 |"]
