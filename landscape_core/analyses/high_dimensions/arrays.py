"""What the Result holds over t checkpoints; NaN where one is still to come, or has no such value."""

from ...specs import CURVATURE, SLOPE, Variable

GRADIENT = "share of |g|²"
COUNTED = "share of eigenvalues"

ARRAYS = (
    Variable("steps", "Steps of the checkpoints.", "t", "steps"),
    Variable("loss", "Loss over the sample.", "t"),
    Variable("theta_norm", "Norm of the weights.", "t", "L2"),
    Variable("displacement", "Distance from the first checkpoint.", "t", "L2"),
    Variable("remaining", "Distance to the last checkpoint.", "t", "L2"),
    Variable("step_length", "Distance to the next checkpoint.", "t", "L2"),
    Variable("distances", "Distances between all checkpoints.", "t t", "L2"),
    Variable("gradient_norm", "Norm of the gradient g.", "t", SLOPE),
    Variable("cosine_position", "Cosine of g and the weights.", "t"),
    Variable("cosine_path", "Cosine of -g and the way gone.", "t"),
    Variable("cosine_remaining", "Cosine of -g and the way left.", "t"),
    Variable("cosine_steps", "Cosine of the steps before and after.", "t"),
    Variable("plane_share_path", "What of g lies in the plane of the path's two principal axes about its mean.", "t", GRADIENT),
    Variable("plane_share_random", "What of g lies in one random plane.", "t", GRADIENT),
    Variable("layer_gradient_norms", "Norm of the gradient by each layer's weights.", "t layers", SLOPE),
    Variable("layer_names", "Names of these weights.", "layers"),
    Variable("layer_law", "Expected profile of these norms with random weights as large as the first checkpoint's.", "layers"),
    Variable(
        "layer_law_deviation",
        "Standard deviation of log(first / last hidden) of these norms about the law, over networks with random weights.",
    ),
    Variable("sharpness", "Largest eigenvalue, from below where it is estimated.", "t", CURVATURE),
    Variable("flat_share", "Eigenvalues that count as flat; the middle of bounds where estimated.", "t", COUNTED),
    Variable(
        "flat_share_error", "How far these bounds are off, which hold in 95 of 100; 0 for the exact matrix.", "t", COUNTED
    ),
    Variable("negative_share", "Eigenvalues that count as negative; the middle of bounds where estimated.", "t", COUNTED),
    Variable(
        "negative_share_error", "How far these bounds are off, which hold in 95 of 100; 0 for the exact matrix.", "t", COUNTED
    ),
    Variable("top_trace_share", "What the `outliers` largest eigenvalues hold of the trace.", "t", "share of the trace"),
    Variable("top_trace_share_error", "Standard error of it; 0 for the exact matrix.", "t", "share of the trace"),
    Variable("top_absolute_share", "What the `outliers` largest |eigenvalue| hold of the sum of all.", "t", "share of the sum"),
    Variable("top_absolute_share_error", "Standard error of it; 0 for the exact matrix.", "t", "share of the sum"),
    Variable("curvature_steps", "Steps at which eigenvalues are counted.", "c", "steps"),
    Variable("outliers", "How many largest eigenvalues are held against the trace."),
    Variable("flat_tolerance", "What counts as flat.", unit="share of the largest eigenvalue"),
    Variable("zero_tolerance", "What counts as zero.", unit="share of the largest eigenvalue"),
    Variable("explained_variance", "What of the path its two principal axes hold.", unit="share"),
    Variable("explained_variance_null", "What those of a random walk in as many dimensions would, its mean.", unit="share"),
    Variable("explained_variance_null_deviation", "Its standard deviation.", unit="share"),
    Variable("parameters", "Parameters of the network."),
    Variable("classes", "Classes that the network tells apart; 0 where it is no classifier."),
    Variable("softmax", "Whether the loss is a cross-entropy or another of the log-probabilities of classes."),
    Variable("sample_size", "Samples of the loss.", unit="samples"),
    Variable("products", "Products for the eigenvalues.", unit="products"),
    Variable("notes", "What must be said besides.", "notes"),
)
