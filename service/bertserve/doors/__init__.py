"""The doors that clients come through, and what all doors share: deadlines, statuses, tokens, certificates, drain."""
