"""Teachers: trajectories to gradients. Import what you need from its modules; nothing here loads torch."""
