"""Alembic's scripts: one file for each step of the schema, in ``versions``. Run by the program itself."""
