"""The health of recordings, from arrays: times, labels, pictures, and the lag between label and skin."""
