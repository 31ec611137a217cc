"""Worker: a series of scanned frames with its truth. Arguments: PROTOCOL PEAK SEED OUT.npz [SEED OUT.npz ...].

Protocols: "p1" (row-wise, 10 frames of 256²), "p1-planted" (P1 with 24 columns shifted by 20 pm), "pair" (two
scans, the second turned by 90°), "pairs" (five of each), "dense" (what isn't row-wise; see `dense`).
Written: `frames` (k, y, x); `u` (k, 2, y, x) px, where pixel (y, x) samples the object at (y + dy, x + dx);
`truth` (n, 2), `width` (n,) of the columns in px of the object, with `planted` (n, 2) the planted shift that is in
`truth` and `scored` (n,); `angles` (k,) degrees; `pixel_nm`; `reach` px, how far frames may lie apart.
"""

import sys

import numpy as np

from fairstem import simulate

SHAPE, PIXEL_NM, BACKGROUND = (256, 256), 0.018, 0.06
PLANTED, PLANTED_PM = 24, 20.0
FRAMES, JUMP_PX, JUMP_FRAME = 10, 25.0, 5
WARP_PX, WAVES, WAVELENGTH_PX = 1.0, 6, (80.0, 250.0)


def main(protocol, peak, *pairs):
    """Make one series a seed and write it."""
    for seed, wanted in zip(pairs[::2], pairs[1::2], strict=True):
        np.savez(wanted, **PROTOCOLS[protocol](int(seed), float(peak)))


def p1(seed, peak, **options):
    """Return protocol P1 as the package makes it."""
    made = simulate.phantom("p1", seed=seed, peak=peak, **options)
    return record(made.data, made.displacement, made.truth)


def planted(seed, peak):
    """Return P1 in which some columns are shifted."""
    made = simulate.phantom("p1", seed=seed, peak=peak)
    table = simulate.displace_columns(
        made.truth, PLANTED, PLANTED_PM * 1e-3 / PIXEL_NM, seed, shape=SHAPE, border=25.0
    )
    return record(render(table, made.displacement, BACKGROUND * peak, seed), made.displacement, table)


def turned(seed, peak, angles):
    """Return scans of one object whose axes, and with them their row-wise distortion, are turned."""
    table = simulate.phantom("p1", seed=seed, peak=peak).truth
    rows = simulate.RowDistortion().series(SHAPE, len(angles), np.random.default_rng([seed, 2]))
    u = np.stack([turn(own, angle) for own, angle in zip(rows, angles, strict=True)])
    return record(render(table, u, BACKGROUND * peak, seed), u, table, angles=angles)


def turn(own, angle):
    """Turn a scan with its distortion (2, y, x) about the middle, +x towards +y: what the pixels sample."""
    grid = np.mgrid[: own.shape[1], : own.shape[2]].astype(float)
    middle = (np.array(own.shape[1:]) - 1).reshape(2, 1, 1) / 2
    off, cos, sin = grid + own - middle, np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.stack([off[0] * cos + off[1] * sin, off[1] * cos - off[0] * sin]) + middle - grid


def dense(seed, peak):
    """Return what isn't row-wise: a slow warp in two dimensions, drift, and one frame that jumps by 25 px.

    The object has a dislocation in its middle, a corner of vacuum and an amorphous edge.
    """
    rng = np.random.default_rng([seed, 3])
    options = {"shape": SHAPE, "pixel_size_nm": PIXEL_NM, "peak": peak, "background": BACKGROUND}
    # asked for with distortion, the table reaches beyond the frame
    table = simulate.phantom("dislocation", seed=seed, distortion="row", frames=2, **options).truth
    y, x = table["y"].to_numpy(), table["x"].to_numpy()
    table = table[(y + x > corner()) & (x < edge())].reset_index(drop=True)
    u = np.stack([warp(rng) for _ in range(FRAMES)])
    t = np.arange(SHAPE[0])[:, None] / SHAPE[0]
    start = np.zeros(2)
    for k in range(FRAMES):
        velocity = rng.normal(0.0, 1.0, 2)
        u[k] += (start + velocity * t)[:, :, None].transpose(1, 0, 2)
        start = start + velocity
    heading = rng.uniform(0, 2 * np.pi)
    u[JUMP_FRAME] += JUMP_PX * np.array([np.sin(heading), np.cos(heading)])[:, None, None]
    y, x = table["y"].to_numpy(), table["x"].to_numpy()
    # not the core, and not where the background steps under a column
    scored = (np.hypot(y - SHAPE[0] / 2, x - SHAPE[1] / 2) > 45) & (y + x > corner() + 25) & (x < edge() - 18)
    film = simulate.AmorphousBackground(0.35 * peak, 0.15, 0.05 / PIXEL_NM, int(rng.integers(2**31)))
    frames = render(table, u, lambda y, x: ground(y, x, film, peak), seed)
    return record(frames, u, table, scored=scored, reach=45.0)


def corner():
    """Return the y + x below which there is vacuum."""
    return 130.0


def edge():
    """Return the x beyond which there is an amorphous film and no crystal."""
    return 205.0


def ground(y, x, film, peak):
    """Return the background: little in vacuum, more under the crystal, most in the film."""
    inside = 1 / (1 + np.exp(-(y + x - corner()) / 3.0))
    beyond = 1 / (1 + np.exp(-(x - edge()) / 3.0))
    return (0.01 * peak + 0.05 * peak * inside) * (1 - beyond) + film(y, x) * beyond


def warp(rng):
    """Return a slow displacement (2, y, x) of two dimensions: plane waves, `WARP_PX` rms an axis."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    u = np.zeros((2, *SHAPE))
    for axis in range(2):
        for _ in range(WAVES):
            k = 2 * np.pi / rng.uniform(*WAVELENGTH_PX)
            angle, phase = rng.uniform(0, 2 * np.pi, 2)
            u[axis] += np.sin(k * (np.sin(angle) * y + np.cos(angle) * x) + phase)
    return u * WARP_PX * np.sqrt(2 / WAVES)


def render(table, u, background, seed):
    """Return the recorded frames, in electrons."""
    clean = [simulate.render_columns(table, SHAPE, background=background, displacement=own) for own in u]
    return simulate.add_noise(np.stack(clean), np.random.default_rng([seed, 1]))


def record(frames, u, table, angles=None, scored=None, reach=12.0):
    """Return the arrays of a series file."""
    shift = table[["shift_y", "shift_x"]].to_numpy(float)
    return {
        "frames": np.asarray(frames, dtype=np.float32),
        "u": np.asarray(u, dtype=np.float32),
        "truth": table[["y", "x"]].to_numpy(float),
        "width": table["width"].to_numpy(float),
        "planted": shift,
        "scored": np.ones(len(table), bool) if scored is None else scored,
        "angles": np.zeros(len(frames)) if angles is None else np.asarray(angles, float),
        "pixel_nm": PIXEL_NM,
        "reach": reach,
    }


PROTOCOLS = {
    "p1": p1,
    "p1-planted": planted,
    "pair": lambda seed, peak: turned(seed, peak, (0.0, 90.0)),
    "pairs": lambda seed, peak: turned(seed, peak, (0.0, 90.0) * 5),
    "dense": dense,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
