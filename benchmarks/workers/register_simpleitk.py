"""Worker, run by the peers' Python: SimpleITK. Arguments: METHOD IN.npz OUT.npz [IN.npz OUT.npz ...].

METHOD is "bspline" (free-form deformation) or "demons" (fast symmetric forces).
"""

import sys

import iterated_average as common
import numpy as np
import SimpleITK as sitk

SIGMA = {"bspline": 1.0, "demons": 1.0}  # px, of the filter before
MESH = (8, 24)  # cells along x and y: more along the slow axis of the scan
SAMPLED = 0.5  # of the pixels
BSPLINE_STEPS = 8  # a round
DEMONS_STEPS, DEMONS_SMOOTH = 50, 2.0  # iterations a round; px


def image_of(values):
    """Return a SimpleITK image."""
    return sitk.GetImageFromArray(np.ascontiguousarray(values, dtype=np.float32))


def bspline(average, frame, start):
    """Register one frame, sampled at a displacement that is known, by a B-spline on top of it."""
    fixed, moving = image_of(average), image_of(common.seen_at(frame, start, average))
    spline = sitk.BSplineTransformInitializer(fixed, MESH, order=3)
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


def demons(average, frame, start):
    """Register one frame from a displacement that is known."""
    method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    method.SetNumberOfIterations(DEMONS_STEPS)
    method.SetStandardDeviations(DEMONS_SMOOTH)
    vectors = np.ascontiguousarray(start[::-1].transpose(1, 2, 0), dtype=np.float64)
    begin = sitk.GetImageFromArray(vectors, isVector=True)
    found = method.Execute(image_of(average), image_of(frame), begin)
    return sitk.GetArrayFromImage(found).transpose(2, 0, 1)[::-1]


def main(method, *pairs):
    """Register each series."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    register = {"bspline": bspline, "demons": demons}[method]

    def solve(frames, reach):
        images = common.filtered(frames, SIGMA[method])
        return common.iterate(images, common.translations(images, reach), register)

    common.run(pairs, solve)


if __name__ == "__main__":
    main(*sys.argv[1:])
