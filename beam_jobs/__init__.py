"""Beam jobs that write and check tfpipe datasets. Beam loads only when a job runs."""
