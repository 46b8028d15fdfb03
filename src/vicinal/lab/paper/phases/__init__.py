"""When mixup helps: the conditions of the phase diagram, the rule that foretells the sign, and their figure."""
