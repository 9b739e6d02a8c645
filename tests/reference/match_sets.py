"""Makes match_sets.json, which tests/extra/tests/match_sets.rs compares the crate's match sets with.

    python tests/reference/match_sets.py FILE... > tests/data/match_sets.json

FILE: TextBrewer's examples/matches/matches.py and examples/*/matches.py (version 0.2.1).
Sets that several files have must be the same in all of them.
"""

import json
import runpy
import sys

sets = {}
for file in sys.argv[1:]:
    for name, matches in runpy.run_path(file)["matches"].items():
        if sets.setdefault(name, matches) != matches:
            sys.exit(f"{file}: `{name}` differs from that of another file")

lines = []
for name, matches in sorted(sets.items()):
    rows = ",\n    ".join(json.dumps(match) for match in matches)
    lines.append(f"  {json.dumps(name)}: [\n    {rows}\n  ]")
print("{\n" + ",\n".join(lines) + "\n}")
