"""The record: PostgreSQL behind the `Store` port."""
