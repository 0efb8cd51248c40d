"""Pure business rules, without database or network: events, password policy, e-mail addresses."""
