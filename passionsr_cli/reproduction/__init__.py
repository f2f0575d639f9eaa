"""The papers' tables: what each of their rows needs is calibrated, evaluated, and set beside what
was published."""
