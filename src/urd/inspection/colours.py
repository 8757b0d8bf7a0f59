"""One colour for each verdict, in all pictures and pages that urd writes.

With red-green or blue-yellow colour blindness they stay apart (a test simulates it), and as text
they are readable on the ground of the page. A shape goes with each colour.
"""

from __future__ import annotations

ON_LIGHT = {"OK": "#0b7d72", "REVIEW": "#a06107", "NG": "#9c0d2d", "ERROR": "#3f1783"}
ON_DARK = {"OK": "#6fe0d2", "REVIEW": "#f4ad34", "NG": "#f0546a", "ERROR": "#a679e8"}
