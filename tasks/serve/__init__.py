"""The champion behind an address: many clients' answers are computed together. No stage: it runs until it is ended."""
