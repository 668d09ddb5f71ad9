"""What a policy acts in: live text, or the exhaustive tree of a short document's allocations."""
