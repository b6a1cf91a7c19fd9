import sys
from pathlib import Path

for folder in ("data", "score"):  # made_corpus, made_up
    sys.path.append(str(Path(__file__).resolve().parents[1] / folder))
