"""What the Result holds over t checkpoints; NaN where one is still to come, or its loss is not finite."""

from ...specs import CURVATURE, SLOPE, Variable

SHARE = "share of |g|²"

TRAINED = "_trained"  # ends the names of what is of the loss with the weight decay in it, where that is trained
OF_LOSS = (
    ("loss", "Loss over the sample.", "t", ""),
    ("gradient_norm", "Norm of the gradient g over the sample.", "t", SLOPE),
    ("gradient_share", "|U'g|² / |g|² with U the top k eigenvectors.", "t", SHARE),
    ("gradient_share_k_minus_1", "The same of the first k - 1.", "t", SHARE),
    ("gradient_share_minibatch", "The same of mini-batch gradients, their mean.", "t", SHARE),
    ("gradient_share_minibatch_spread", "Standard deviation over the mini-batches.", "t", SHARE),
    ("gradient_norm_minibatch", "Mean norm of the mini-batch gradients.", "t", SLOPE),
    ("contributions", "What lies along each eigenvector.", "t k", SHARE),
)
WITH = "With weight decay, of L + wd/2 |θ|², where that is what is trained: "

ARRAYS = (
    Variable("steps", "Steps of the checkpoints.", "t", "steps"),
    *(Variable(name, words, *more) for name, words, *more in OF_LOSS),
    *(Variable(name + TRAINED, WITH + words[0].lower() + words[1:], *more) for name, words, *more in OF_LOSS),
    Variable("gradient_floor", "What rounding of the weights makes of it: below it a share is noise.", "t", SLOPE),
    Variable("displacement_share", "Of the way to the next checkpoint shown, what lies in the space.", "t", "share of |d|²"),
    Variable("eigenvalues", "The k largest eigenvalues, descending.", "t k", CURVATURE),
    Variable("residuals", "|Hv - lv| / |l| of each.", "t k"),
    Variable("eigenvalue_next", "Eigenvalue k + 1, at least.", "t", CURVATURE),
    Variable("persistence", "What the spaces of two checkpoints have in common, |U'V|² / k.", "t t", "share"),
    Variable("persistence_reference", "The same with the reference's space.", "t", "share"),
    Variable("products_steps", "Products of each search.", "t", "products"),
    Variable("warm", "Whether the search began with the space before.", "t"),
    Variable("lr_steps", "Learning rate of the next step.", "t"),
    Variable("stability_limit_steps", "Up to which eigenvalue the optimiser is stable.", "t", CURVATURE),
    Variable("stability_kind", "What the limit is: limit, reference or none."),
    Variable("stability_rule", "Its formula."),
    Variable("stability_words", "What is said of it."),
    Variable("k", "Eigenvectors that span the space."),
    Variable("baseline", "Share of a random direction: k / p.", unit="share"),
    Variable("baseline_deviation", "Its standard deviation.", unit="share"),
    Variable("baseline_bounds", "What it lies between in 99 of 100 cases.", "2", "share"),
    Variable("persistence_chance", "What two random spaces have in common at most, in 199 of 200 cases.", unit="share"),
    Variable("classes", "Classes that the network tells apart; 0 where it is no classifier."),
    Variable("reference_step", "Step whose space the others are held against.", unit="steps"),
    Variable("parameters", "Parameters of the network."),
    Variable("softmax", "Whether the loss is a cross-entropy or another of the log-probabilities of classes."),
    Variable("reduction", "What the loss is of losses of single samples: mean or sum; empty where it is of no such losses."),
    Variable("sample_size", "Samples of the loss.", unit="samples"),
    Variable("minibatch_size", "Samples of a mini-batch; 0 for none.", unit="samples"),
    Variable("weight_decay", "Weight decay of the run, which is in none of the plain arrays."),
    Variable("trained_decay", "Weight decay in the loss that is trained: 0 for AdamW, whose decay is a part of no loss."),
    Variable("products", "Products of all searches.", unit="products"),
    Variable("notes", "What must be said besides.", "notes"),
)
