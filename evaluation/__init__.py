"""From waveforms to numbers: inference, protocols, metrics, tables and reports."""
