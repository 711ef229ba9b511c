"""Watching a camera: estimates as they come, their files, and the page that shows them."""
