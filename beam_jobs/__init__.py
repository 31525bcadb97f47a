"""The Beam job that writes tfpipe datasets. Beam is loaded only when a job runs."""
