"""What the Result holds: curves over r points for every branch, and how the branches were trained."""

from ...specs import Variable

BRANCHES = {
    "free": "with the whole update",
    "inside": "with the part of the update in the top space",
    "outside": "with the part outside it",
    "random": "with the part in as many random directions",
}

TRAINED = "_trained"  # ends the names of what is of the loss with the weight decay in it, where that is trained
LOSSES = {"": "", TRAINED: " with weight decay, L + wd/2 |θ|², where that is what is trained"}

ARRAYS = (
    Variable("steps", "Steps of training at which the branches are looked at.", "r", "steps"),
    *(
        Variable(f"loss_{name}{end}", f"Loss over the whole sample{of}, {words}; NaN once diverged.", "r")
        for end, of in LOSSES.items()
        for name, words in BRANCHES.items()
    ),
    *(Variable(f"distance_{name}", f"Distance from the checkpoint, {words}.", "r", "L2") for name, words in BRANCHES.items()),
    *(
        Variable(
            f"drop_{name}{end}",
            f"Fall of the loss{of} {words}; NaN where the free one does not fall.",
            unit="share of the free fall",
        )
        for end, of in LOSSES.items()
        for name, words in BRANCHES.items()
    ),
    *(
        Variable(
            f"drop_chance{end}",
            f"Fall of the loss{of} that other random directions stay below in 98 of 100 cases, by their law.",
            unit="share of the free fall",
        )
        for end, of in LOSSES.items()
    ),
    Variable("start", "Step of the checkpoint.", unit="steps"),
    Variable("k", "Eigenvectors that span the top space."),
    Variable("baseline", "What of a random direction lies in it: k / p.", unit="share"),
    Variable("parameters", "Parameters of the network."),
    Variable("theta_norm", "Norm of the weights at the checkpoint.", unit="L2"),
    Variable("sample_size", "Samples of the loss.", unit="samples"),
    Variable("optimizer", "Optimiser of all branches."),
    Variable("lr", "Learning rate of the first step."),
    Variable("momentum", "Momentum."),
    Variable("weight_decay", "Weight decay."),
    Variable("trained_decay", "Weight decay in the loss that is trained: 0 for AdamW, whose decay is a part of no loss."),
    Variable("batch_size", "Samples a step; 0 for all.", unit="samples"),
    Variable("own_settings", "Whether the free branch trains on as the run did."),
    Variable("products", "Hessian-vector products.", unit="products"),
    Variable("notes", "What must be said besides.", "notes"),
)
