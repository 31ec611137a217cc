"""Where the frames lie to a pixel or so, without hopping by a unit cell."""
