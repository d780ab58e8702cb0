"""What the Result holds, of one checkpoint or over t of them; what is of a second matrix begins with `beside_`."""

from dataclasses import replace

from ...specs import Variable

SLOPE = "loss per unit length"
CURVATURE = "loss per unit length²"

MATRIX = (  # of each matrix that is looked at
    Variable("kind", "Which matrix: hessian, ggn, fisher or empirical_fisher."),
    Variable("eigenvalues_top", "The k largest eigenvalues, descending.", "k", CURVATURE),
    Variable("residuals_top", "|Hv - lv| / |l| of each.", "k"),
    Variable("converged_top", "Whether it meets the tolerance.", "k"),
    Variable("eigenvalues_bottom", "The smallest eigenvalues, ascending.", "b", CURVATURE),
    Variable("residuals_bottom", "|Hv - lv| / |H| of each.", "b"),
    Variable("converged_bottom", "Whether it meets the tolerance.", "b"),
    Variable("norm", "Largest absolute eigenvalue.", unit=CURVATURE),
    Variable("nodes", "Nodes of the spectral measure: the eigenvalues, or each probe's Ritz values.", "probes m", CURVATURE),
    Variable("weights", "Their weights, which add up to one for each probe.", "probes m"),
    Variable("density", "Smoothed density of the eigenvalues on the grid; its integral is one.", "g", "1 / curvature"),
    Variable("density_error", "Standard error of it over the probes; 0 for the exact matrix.", "g", "1 / curvature"),
    Variable("density_mass", "Integral of the density over the grid."),
    Variable("trace", "Sum of all eigenvalues.", unit=CURVATURE),
    Variable("trace_standard_error", "Its standard error; 0 for the exact matrix.", unit=CURVATURE),
    Variable("trace_operator", "The matrix of equal trace that was sampled."),
    Variable("trace_layers", "Trace of each layer's diagonal block.", "layers", CURVATURE),
    Variable("trace_layers_standard_error", "Standard errors of these.", "layers", CURVATURE),
    Variable("layer_names", "Names of the layers' parameters.", "layers"),
    Variable("layer_sizes", "Parameters of each.", "layers"),
)

ARRAYS = (
    *MATRIX,
    Variable("density_grid", "Places at which the densities are given.", "g", CURVATURE),
    Variable("density_width", "Standard deviation of the kernel.", unit=CURVATURE),
    Variable("eigenvectors", "Unit eigenvectors of the k largest, where they were asked for.", "p k"),
    Variable("gradient_norm", "Norm of the gradient g.", unit=SLOPE),
    Variable("gradient_curvature", "|H g| / |g|.", unit=CURVATURE),
    Variable(
        "newton_decrement",
        "1/2 g'|H|⁻¹g over eigenvalues that are not zero: the fall by a Newton step.",
        unit="loss",
    ),
    Variable("sharpness", "Largest eigenvalue.", unit=CURVATURE),
    Variable("sharpness_invariant", "Largest eigenvalue of diag|θ| H diag|θ|, which rescaling leaves alone.", unit="loss"),
    Variable("zero_threshold", "Below which size an eigenvalue counts as zero.", unit=CURVATURE),
    Variable("negative_share", "Eigenvalues below minus that.", unit="share"),
    Variable("negative_share_error", "Standard error of it; 0 for the exact matrix.", unit="share"),
    Variable("negative_share_bounds", "What the quadrature proves of it: at least, at most.", "2", "share"),
    Variable("nullity", "Eigenvalues that count as zero."),
    Variable("nullity_error", "Standard error of it; 0 for the exact matrix."),
    Variable("nullity_bounds", "Fewest and most that it can be.", "2"),
    Variable("zero_modes_found", "The same as `nullity`."),
    Variable("nullity_predicted", "Zero eigenvalues that the network's build makes at every theta, at least."),
    Variable("nullity_reasons", "Why there are these."),
    Variable("classification", "The kind of point."),
    Variable("effective_dimension", "Sum of l / (l + c) over positive eigenvalues."),
    Variable("effective_dimension_error", "Standard error of it; 0 for the exact matrix."),
    Variable("participation", "(tr H)² / tr H²: how many equal eigenvalues would have these sums."),
    Variable("outliers", "Largest eigenvalues that stand apart from the rest."),
    Variable("outlier_gap", "Ratio of the last of them to the next eigenvalue."),
    Variable("trace_ggn", "Trace of the Gauss-Newton matrix, where it is known.", unit=CURVATURE),
    Variable("lr", "Learning rate of the run's next step."),
    Variable("stability_limit", "Up to which eigenvalue its optimiser is stable on a quadratic.", unit=CURVATURE),
    Variable("stability_kind", "What the limit is: limit, reference or none."),
    Variable("stability_rule", "Its formula."),
    Variable("stability_words", "What is said of it."),
    Variable("rescaled_sharpness", "Largest eigenvalue with the first two layers rescaled.", unit=CURVATURE),
    Variable("rescaled_trace", "Trace with them rescaled; NaN where it was not computed.", unit=CURVATURE),
    Variable("rescaled_invariant", "The invariant sharpness with them rescaled.", unit="loss"),
    Variable("rescaled_deviation", "How much the outputs changed, relative to the largest."),
    Variable("rescaled_note", "Why nothing could be rescaled."),
    *(
        replace(item, name=f"beside_{item.name}", words=f"Of the second matrix: {item.words[:1].lower()}{item.words[1:]}")
        for item in MATRIX
    ),
    Variable("steps", "Over a run: steps of the checkpoints.", "t", "steps"),
    Variable("eigenvalues_top_steps", "The k largest eigenvalues at each.", "t k", CURVATURE),
    Variable("residuals_top_steps", "|Hv - lv| / |l| of each.", "t k"),
    Variable("eigenvalue_bottom_steps", "The smallest eigenvalue at each.", "t", CURVATURE),
    Variable("gradient_norm_steps", "Norm of the gradient at each.", "t", SLOPE),
    Variable("lr_steps", "Learning rate of the step that follows each.", "t"),
    Variable("stability_limit_steps", "Up to which eigenvalue the optimiser is stable there.", "t", CURVATURE),
    Variable("parameters", "Parameters of the matrix."),
    Variable("sample_size", "Samples of the loss.", unit="samples"),
    Variable("weight_decay", "Weight decay of the run."),
    Variable("operator_kind", "The matrix that was asked for."),
    Variable("method", "How: dense or lanczos."),
    Variable("arithmetic", "Arithmetic of the products."),
    Variable("products", "Products with a vector.", unit="products"),
    Variable("notes", "What must be said besides.", "notes"),
)
