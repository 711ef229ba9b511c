"""From raw face videos to the store: sources, face finding, crops, labels, files."""
