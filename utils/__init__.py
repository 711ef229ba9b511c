"""Tools that know nothing of nets, datasets or papers."""
