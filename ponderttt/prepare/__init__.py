"""What every experiment needs before it measures: documents with states, tuned adapters."""
