"""What a policy acts in: live text, or every allocation of short documents."""
