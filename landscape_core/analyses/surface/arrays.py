"""What the Result holds: quantities on the grid, the axes, and the certificate of the slice.

`[i, j]` is at theta + alphas[i] d0 + betas[j] d1. A plane has (n, m) points, lines (s, n).
"""

from ...specs import CURVATURE, SLOPE, Variable

SPLITS = {"": "the split", "_test": "the test samples"}
QUANTITIES = ("loss", "accuracy", "error")
CURVED = "loss per squared axis unit"
GRID = "n m | s n"

ARRAYS = (
    Variable("alphas", "Grid along the first axis.", "n", "axis units"),
    Variable("betas", "Grid along the second axis, of a plane.", "m", "axis units"),
    *(
        item
        for end, words in SPLITS.items()
        for item in (
            Variable(f"loss{end}", f"Loss over {words}.", GRID),
            Variable(f"accuracy{end}", f"Accuracy over {words}.", GRID, "share"),
            Variable(f"error{end}", f"Share of errors over {words}.", GRID, "share"),
        )
    ),
    *(
        item
        for i, name in enumerate(("first", "second"))
        for item in (
            Variable(f"direction_{i}", f"The {name} axis at full scale.", "p"),
            Variable(f"axis_norm_{i}", "Its length.", unit="L2"),
            Variable(f"unit_{i}", "What one unit along it is."),
            Variable(f"curvature_{i}", "Curvature d'Hd along it.", unit=CURVED),
            Variable(f"second_difference_{i}", "The second difference of the loss at the spacing of the grid.", unit=CURVED),
            Variable(f"second_difference_rounding_{i}", "What rounding of the losses may make of it.", unit=CURVED),
        )
    ),
    Variable("axis_cosine", "Cosine of the two axes."),
    Variable("axis_cosine_null", "Its root mean square over random axes of this kind; NaN for other axes."),
    Variable("axis_residuals", "Of axes that are eigenvectors: |Hv - lv| / |l|.", "axes"),
    Variable("explained_variance", "What of the path's squared displacement principal axes hold.", unit="share"),
    Variable("explained_variance_null", "What those of a random walk in many dimensions would.", unit="share"),
    Variable("explained_variance_walk", "The same in as many dimensions as there are parameters, on average.", unit="share"),
    Variable("explained_variance_walk_deviation", "The standard deviation of that over walks.", unit="share"),
    Variable("anchors", "Coordinates of the checkpoints that span the slice.", "anchors axes", "axis units"),
    Variable("anchor_labels", "Their names.", "anchors"),
    Variable("center_loss", "Loss at the centre, as it was computed for the picture."),
    Variable("center_loss_reference", "The same by a plain evaluation in float64."),
    Variable("center_deviation", "What they differ by, relative to the loss."),
    Variable("center_rounding", "What rounding of the model's outputs explains of that difference, as a loss."),
    Variable("center_accuracy", "Accuracy at the centre.", unit="share"),
    Variable("center_loss_standard_error", "Standard error of the mean loss over the sample; NaN where samples are coupled."),
    Variable(
        "difference_places",
        "Where pairs of points lie: neighbours at the centre (near), at the rim (rim), one at each (far).",
        "pairs",
    ),
    Variable("difference_cells", "The two points of each pair.", "pairs 2 axes", "axis units"),
    Variable("differences", "Loss at the first minus loss at the second, in float64.", "pairs"),
    Variable("difference_errors", "Standard error of that, from the differences of each sample's losses.", "pairs"),
    *(
        Variable(f"difference_error_{place}", f"Largest standard error of such a difference {words}.")
        for place, words in (
            ("near", "between neighbours at the centre"),
            ("rim", "between neighbours at the rim"),
            ("far", "from the centre to the rim"),
        )
    ),
    Variable("sample_size", "Samples of the split.", unit="samples"),
    Variable("sample_size_test", "Test samples; 0 where they were not evaluated.", unit="samples"),
    Variable("gradient_norm", "Norm of the gradient g at the centre.", unit=SLOPE),
    Variable("gradient_rounding", "Four times what a unit in the last place of the weights makes of g.", unit=SLOPE),
    Variable("gradient_share", "What of g lies in the slice, |Q'g|² / |g|²; NaN for rounding.", unit="share of |g|²"),
    Variable("gradient_share_baseline", "What such axes hold of it on average.", unit="share of |g|²"),
    Variable("plane_curvatures", "Eigenvalues of the Hessian within the slice, of Q'HQ.", "axes", CURVATURE),
    Variable("curvature_rounding", "What rounding may make of a curvature in the slice.", unit=CURVATURE),
    Variable("curvatures", "Curvature along each of the lines.", "s", CURVED),
    Variable("curvature_note", "Why there is no curvature."),
    Variable("nonconvex_share", "Cells where the picture bends downwards by more than rounding.", unit="share"),
    Variable("hidden_share", "Cells where no second difference stands above rounding.", unit="share"),
    Variable("picture_shape", "flat, tilted, bowl, trough, saddle, ridge, dome, uneven, rugged or unknown."),
    Variable("convexity_plane", "Smaller over largest absolute eigenvalue of the picture's own 2 x 2 Hessian.", "n-2 m-2"),
    Variable("masked_cells", "Points that are not finite.", unit="points"),
    Variable("trajectory_steps", "Steps of the path's checkpoints.", "t", "steps"),
    Variable("trajectory_coordinates", "Where they lie in the slice, by least squares.", "t axes", "axis units"),
    Variable("trajectory_residual", "How far they are off it.", "t", "L2"),
    Variable("trajectory_rounding", "Distances off it that are nothing but rounding.", unit="L2"),
    Variable("trajectory_loss", "Loss at the checkpoints themselves.", "t"),
    Variable("trajectory_plane_loss", "Loss at their places in the slice.", "t"),
    Variable("trajectory_height_error", "What these two differ by.", "t"),
    Variable("random_walk_coordinates", "A random walk as long, on its own principal axes.", "t 2", "axis units"),
    Variable("flow", "Projected gradient flow -(D'D)⁻¹D'g.", "f f 2", "axis units"),
    Variable("flow_alphas", "Where its arrows begin, along the first axis.", "f", "axis units"),
    Variable("flow_betas", "The same along the second.", "f", "axis units"),
    Variable("has_batchnorm", "Whether the network normalises by batches."),
    Variable("batchnorm_statistics", "stored, or batch: which it takes."),
    Variable("kinks", "What in network and loss has a slope that jumps, by name; empty for none."),
    Variable("notes", "What was left out, and why.", "notes"),
    Variable("hessian_top", "Largest eigenvalue of the whole Hessian at the centre.", unit=CURVATURE),
    Variable("hessian_top_residual", "Its relative residual."),
    Variable("hessian_bottom", "Smallest eigenvalue.", unit=CURVATURE),
    Variable("hessian_bottom_residual", "Its relative residual."),
    Variable("hessian_trace", "Trace of the whole Hessian.", unit=CURVATURE),
    Variable("hessian_trace_standard_error", "Its standard error.", unit=CURVATURE),
    Variable("trace_share", "What of it lies in the slice, tr Q'HQ / tr H; NaN where it is vague.", unit="share of the trace"),
    Variable("trace_share_error", "Standard error of it.", unit="share of the trace"),
    Variable("trace_share_baseline", "What random axes hold on average.", unit="share of the trace"),
    Variable("hessian_negative", "Negative eigenvalues of the whole Hessian; NaN where not resolved.", unit="share"),
    Variable("hessian_negative_error", "Standard error of it.", unit="share"),
    Variable("hessian_negative_bounds", "At least, at most: both hold in 95 of 100 sets of probes.", "2", "share"),
    Variable("convexity", "Smallest over largest absolute eigenvalue of the whole Hessian on a grid of its own.", "c c"),
    Variable("convexity_min", "Its smallest eigenvalue there.", "c c", CURVATURE),
    Variable("convexity_max", "Its largest.", "c c", CURVATURE),
    Variable("convexity_alphas", "That grid along the first axis.", "c", "axis units"),
    Variable("convexity_betas", "The same along the second.", "c", "axis units"),
)
