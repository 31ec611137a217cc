"""Scans whose orientation can be seen, and writers of the formats they come in, from the formats' descriptions."""

from __future__ import annotations

import struct

import hyperspy.api as hs
import numpy as np

SCAN = (3, 4)


def asymmetric_scan(scan=SCAN, detector=(16, 12), dtype="u1"):
    """A letter F on a detector, and in its upper left corner the number of the scan position, from 1."""
    ny, nx = scan
    pattern = np.zeros(detector, dtype)
    pattern[4:12, 3] = 50  # the stem
    pattern[4, 3:8] = 50  # the upper arm
    pattern[7, 3:6] = 50  # the lower, shorter one
    data = np.broadcast_to(pattern, (ny, nx, *detector)).copy()
    data[:, :, 0, 0] = np.arange(1, ny * nx + 1).reshape(ny, nx)
    return data


def signal_of(data, scan_nm=(0.2, 0.1), detector=(0.5, "mrad")):
    signal = hs.signals.Signal2D(data)
    names = ("y", "x", "k_y", "k_x")[-data.ndim :]
    for axis, name in zip(signal.axes_manager._axes, names, strict=True):
        axis.name = name
        axis.scale, axis.units = detector if name.startswith("k") else (scan_nm["yx".index(name)], "nm")
    return signal


def write_blockfile(path, data, scan_nm=(0.2, 0.1), sdp=16000, camera=1500, frames=None):
    """Header of 0x1000 bytes, a picture of the scan, then each pattern behind a mark and its number."""
    ny, nx, size, _ = data.shape
    at = 0x1000 + ny * nx + 4
    header = struct.pack("<6sHIIIHHHHH", b"IMGBLO", 0x0102, 0x1000, at, 131141, size, 0, nx, ny, 0)
    header += struct.pack("<ddIHId", scan_nm[1], scan_nm[0], 200_000, sdp, camera, 42_000.0)
    patterns = data.reshape(-1, size * size)[:frames]
    records = [b"\xaa\x55" + struct.pack("<I", i) + p.tobytes() for i, p in enumerate(patterns)]
    path.write_bytes(header.ljust(at, b"\0") + b"".join(records))


def write_merlin(path, data, header=None, row=None):
    """Each frame behind a header of 384 characters; the file's first row is the lowest of the detector."""
    patterns = data.reshape(-1, *data.shape[-2:])[:, ::-1]
    height, width = patterns.shape[1:]
    words = {1: "U08", 2: "U16", 4: "U32"}[data.dtype.itemsize]
    out = b""
    for i, pattern in enumerate(patterns):
        # a longer pause before each row
        pause = 1000 * i + (100_000 * (i // row) if row else 0)
        time = f"2021-05-07 18:51:{10 + pause / 1e6:09.6f}"
        text = f"MQ1,{i + 1:06d},00384,01,{width:04d},{height:04d},{words},   1x1,01,{time},0.001000,0,0,0,"
        fields = [f"{4.0:E}"] * 8 + ["3RX"] + ["000"] * 27
        text += ",".join(fields) + f",MQ1A,{time.replace(' ', 'T')}000Z,1000000ns,6,"
        out += text.encode().ljust(384, b"\0") + pattern.astype(pattern.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(out)
    if header is not None:
        lines = ["HDR,\t", *(f"{k}:\t{v}" for k, v in header.items()), "End\t"]
        path.with_suffix(".hdr").write_text("\n".join(lines))


def write_empad(path, data, named=False):
    """An XML header, and 130 rows of 128 floats for each pattern, of which two are a footer."""
    ny, nx = data.shape[:2]
    raw = path.with_name(f"scan_x{nx}_y{ny}.raw")
    frames = np.full((ny * nx, 130, 128), -7.0, "<f4")
    frames[:, :128] = data.reshape(-1, 128, 128)
    raw.write_bytes(frames.tobytes())
    sizes = "" if named else f"<pix_x>{nx}</pix_x><pix_y>{ny}</pix_y>"
    view = "<iom_measurements><optics><get_full_scan_field_of_view>"
    view += f"({0.2e-9 * ny}, {0.1e-9 * nx})</get_full_scan_field_of_view></optics>"
    view += "<calibrated_pixelsize>2.5e-10</calibrated_pixelsize></iom_measurements>"
    path.write_text(f'<?xml version="1.0"?><root><raw_file filename="{raw.name}"/>{sizes}{view}</root>')


def write_mrc(path, data):
    """A stack of frames behind a header of 1024 bytes; the first row is the first in the file."""
    frames = data.reshape(-1, *data.shape[-2:])
    n, ny, nx = frames.shape
    mode = {"uint8": 0, "int16": 1, "uint16": 6, "float32": 2}[str(data.dtype)]
    header = struct.pack("<10i", nx, ny, n, mode, 0, 0, 0, nx, ny, n) + struct.pack("<3f", nx, ny, n)
    path.write_bytes(header.ljust(1024, b"\0") + frames.tobytes())
