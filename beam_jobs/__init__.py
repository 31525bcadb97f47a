"""Beam jobs that write and check tfpipe datasets. Nothing here is imported by tfpipe; Beam loads only when a job runs."""
