from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omniwsi.contours.chains import _string


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_stringing_equals_walking(seed: int, count: int) -> None:
    """Pieces become chains and rings as when one follows them by hand."""
    rng = np.random.default_rng(seed)
    names = np.sort(rng.permutation(1000)[:count])
    follows = dict(zip(names.tolist(), rng.permutation(names).tolist(), strict=True))
    for name in names.tolist():
        if rng.random() < 0.2 and len(follows) > 1:
            del follows[name]
    start = np.array(sorted(follows))
    heads, lengths, sequence, is_closed = _string(start, np.array([follows[name] for name in start.tolist()]))
    ours = {
        (tuple(start[sequence[head : head + length]].tolist()), bool(closed))
        for head, length, closed in zip(heads, lengths, is_closed, strict=True)
    }
    walked, seen, ends = set(), set(), set(follows.values())
    for first in sorted(follows, key=lambda name: (name in ends, name)):
        if first in seen:
            continue
        chain = [first]
        while follows[chain[-1]] in follows and follows[chain[-1]] != first:
            chain.append(follows[chain[-1]])
        seen |= set(chain)
        walked.add((tuple(chain), follows[chain[-1]] == first))
    assert ours == walked
