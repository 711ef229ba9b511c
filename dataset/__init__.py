"""From the store to batches: splits, clips, transforms, sampling."""
