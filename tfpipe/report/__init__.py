"""What tfpipe shows: pictures of measurements."""
