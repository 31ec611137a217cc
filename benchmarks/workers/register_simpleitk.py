"""Worker, run by the peers' Python: SimpleITK. Arguments: METHOD SETTING IN.npz OUT.npz [IN.npz OUT.npz ...].

METHOD is "bspline" (free-form deformation, mean squares, L-BFGS-B) or "demons" (fast symmetric forces). SETTING is
"rows" (best of those tried on P1, seed 0) or "field" (best on the series that isn't row-wise, seed 0). Tried, with
the displacement rmse in px and CPU seconds; sigma is that of the filter before, in px:

B-spline, rows: mesh 2 x 16 sigma 1: 0.152 in 15 s (half of the pixels sampled) and 8 s (a quarter); 4 x 24: 0.158 in
27 s; 8 x 8: 0.276 in 17 s; 2 x 24 sigma 1.5: 0.141 in 20 s. Field: 6 x 6 sigma 1.5: 0.308 in 13 s; 8 x 8: 0.231 in
16 s (half of the pixels) and 0.233 in 10 s (a quarter); 12 x 12: 0.251 in 27 s.
Demons, rows: smoothing 1 px: 0.471; 1.5: 0.377; 2: 0.290; 4: 0.187 in 27 s (3 rounds of 50), 0.194 in 11 s
(2 rounds of 30); 5: 0.187 in 12 s. Field: 4: 0.301 in 18 s; 6: 0.294 in 22 s.
"""

import sys
from functools import partial

import iterated_average as common
import numpy as np
import SimpleITK as sitk

SIGMA = 1.5  # px, of the filter before
MESH = {"rows": (2, 24), "field": (8, 8)}  # cells along x and y: many along the slow axis where rows move
SAMPLED = 0.25  # of the pixels
BSPLINE_STEPS = 6  # a round
DEMONS_SMOOTH = {"rows": 5.0, "field": 6.0}  # px
DEMONS_STEPS = {"rows": 30, "field": 50}  # a round


def image_of(values):
    """Return a SimpleITK image."""
    return sitk.GetImageFromArray(np.ascontiguousarray(values, dtype=np.float32))


def bspline(average, frame, start, setting):
    """Register one frame, sampled at a displacement that is known, by a B-spline on top of it."""
    fixed, moving = image_of(average), image_of(common.seen_at(frame, start, average))
    spline = sitk.BSplineTransformInitializer(fixed, MESH[setting], order=3)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMeanSquares()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLED, 0)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetInitialTransform(spline, inPlace=True)
    method.SetOptimizerAsLBFGSB(gradientConvergenceTolerance=1e-7, numberOfIterations=BSPLINE_STEPS)
    method.Execute(fixed, moving)
    found = sitk.TransformToDisplacementField(spline, sitk.sitkVectorFloat64, fixed.GetSize())
    return common.compose(start, sitk.GetArrayFromImage(found).transpose(2, 0, 1)[::-1])


def demons(average, frame, start, setting):
    """Register one frame from a displacement that is known."""
    method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    method.SetNumberOfIterations(DEMONS_STEPS[setting])
    method.SetStandardDeviations(DEMONS_SMOOTH[setting])
    vectors = np.ascontiguousarray(start[::-1].transpose(1, 2, 0), dtype=np.float64)
    begin = sitk.GetImageFromArray(vectors, isVector=True)
    found = method.Execute(image_of(average), image_of(frame), begin)
    return sitk.GetArrayFromImage(found).transpose(2, 0, 1)[::-1]


def main(method, setting, *pairs):
    """Register each series."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    register = partial({"bspline": bspline, "demons": demons}[method], setting=setting)

    def solve(frames, reach):
        images = common.filtered(frames, SIGMA)
        return common.iterate(images, common.translations(images, reach), register)

    common.run(pairs, solve)


if __name__ == "__main__":
    main(*sys.argv[1:])
