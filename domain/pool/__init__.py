"""The pool as it is: nodes and what is free on them, work that waits and work that has capacity, and what is promised."""
