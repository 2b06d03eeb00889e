"""Trials from the contract alone: real processes, real faults, an outside history."""
