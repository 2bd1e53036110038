"""What stands at the bottom: errors, files, digests, locks, devices, jobs. Imports nothing of the project."""
