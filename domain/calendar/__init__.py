"""The calendar: windows that recur, by the clocks of a place, and what is kept for them."""
