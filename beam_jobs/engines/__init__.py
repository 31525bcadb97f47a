"""Where a conversion runs: Beam graphs and runners, helper processes, stores, locks, progress."""
