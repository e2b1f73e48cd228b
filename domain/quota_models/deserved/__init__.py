"""The quota model `deserved`: every queue its deserved quota first, the surplus by priority and weight (KAI's rules)."""
