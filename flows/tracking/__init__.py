"""The experiment tracker as flows use it: rounds, outbox and links."""
