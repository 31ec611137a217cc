"""Worker, run by the peers' Python: operations of LiberTEM on a whole scan. Arguments: see `operation_timing`."""

import functools

import libertem.api as lt
import operation_timing as shared
from libertem.udf.masks import ApplyMasksUDF
from libertem.udf.sum import SumUDF


@functools.cache
def context():
    """Return a context that runs in this process."""
    return lt.Context.make_with("inline")


def data(array):
    """Return the scan as a data set in memory."""
    return context().load("memory", data=array, sig_dims=2)


def virtual(array):
    """Return bright field and annular dark field, from one pass."""
    weights = shared.masks(array)
    made = context().run_udf(data(array), ApplyMasksUDF(mask_factories=lambda: weights))["intensity"].data
    return {"bright": made[..., 0], "dark": made[..., 1]}


def com(array):
    """Return the centre of mass less the middle of the detector, px."""
    y, x = shared.middle(array)
    analysis = context().create_com_analysis(dataset=data(array), cy=y, cx=x)
    found = context().run(analysis)
    return {"com_y": found.y.raw_data, "com_x": found.x.raw_data}


def pacbed(array):
    """Return the mean pattern."""
    total = context().run_udf(data(array), SumUDF())["intensity"].data
    return {"pacbed": total / (array.shape[0] * array.shape[1])}


OPERATIONS = {"virtual": virtual, "com": com, "pacbed": pacbed}

if __name__ == "__main__":
    shared.run(OPERATIONS)
