"""Errors, files, digests, locks, devices, jobs and safe text. Imports no other package of the project."""
