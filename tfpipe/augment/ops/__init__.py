"""The ops: what each does to pixels, a module a family, and one table of them all."""
