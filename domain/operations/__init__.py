"""Operations: what operators order, who may, who has to approve, and what it would do to everybody."""
