"""What the Result holds: curves over r points for every branch, and how the branches were trained."""

from ...specs import Variable

BRANCHES = {
    "free": "with the whole update",
    "inside": "with the part of the update in the top space",
    "outside": "with the part outside it",
    "random": "with the part in as many random directions",
}

ARRAYS = (
    Variable("steps", "Steps of training at which the branches are looked at.", "r", "steps"),
    *(
        Variable(f"loss_{name}", f"Loss over the whole sample, {words}; NaN once diverged.", "r")
        for name, words in BRANCHES.items()
    ),
    *(Variable(f"distance_{name}", f"Distance from the checkpoint, {words}.", "r", "L2") for name, words in BRANCHES.items()),
    *(
        Variable(f"drop_{name}", f"Fall of the loss {words}.", unit="share of the free fall")
        for name, words in BRANCHES.items()
    ),
    Variable("start", "Step of the checkpoint.", unit="steps"),
    Variable("k", "Eigenvectors that span the top space."),
    Variable("baseline", "What of a random direction lies in it: k / p.", unit="share"),
    Variable("parameters", "Parameters of the network."),
    Variable("sample_size", "Samples of the loss.", unit="samples"),
    Variable("optimizer", "Optimiser of all branches."),
    Variable("lr", "Learning rate of the first step."),
    Variable("momentum", "Momentum."),
    Variable("weight_decay", "Weight decay."),
    Variable("batch_size", "Samples a step; 0 for all.", unit="samples"),
    Variable("own_settings", "Whether the free branch trains on as the run did."),
    Variable("products", "Hessian-vector products.", unit="products"),
)
