"""Small networks of other packages with data, in the form in which their users have them; weights random, seeds fixed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
import transformers
from facenet_pytorch.models.mtcnn import PNet
from peft import LoraConfig, get_peft_model
from timm.models._efficientnet_blocks import SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.convnext import ConvNeXt
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCNConv, global_mean_pool

VOCABULARY = 29
NO_MARKS = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}


@dataclass(frozen=True)
class Case:
    """A network, its loss and its batches; `weights` are the batches' sizes, `call` spreads inputs over the network."""

    model: nn.Module
    loss: Callable[[Any, Any], Tensor]
    batches: Sequence[tuple[Any, Any]]
    weights: Sequence[int]
    call: Callable[[nn.Module, Any], Any]
    accuracy: Callable[["Case"], float]  # what an accuracy must be if there is one
    rounds: bool = False  # whether it rounds to float32 inside, in a float64 model too
    twice: bool = True  # whether autograd has its second derivative
    likelihood: bool = True  # whether the loss is cross-entropy of classes or squared error, mean over all
    separate: bool = True  # whether the loss of a batch is the mean over samples that do not see each other, of outputs in rows
    rows: bool = True  # whether inputs and targets can be cut into samples
    samples: Callable[["Case"], np.ndarray] | None = None  # else their losses, if a sample has one


def whole(model: nn.Module, inputs: Any) -> Any:
    return model(inputs)


def spread(model: nn.Module, inputs: Any) -> Any:
    return model(*inputs)


def named(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs)


def tokens(rows: int, length: int, seed: int, low: int = 2) -> Tensor:
    return torch.randint(low, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))


def classes(rows: int, number: int, seed: int) -> Tensor:
    return torch.randint(number, (rows,), generator=torch.Generator().manual_seed(seed))


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def padded(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of several lengths, filled up with 0, and the mask of what is not."""
    mask = (torch.arange(ids.shape[1]) < ids.shape[1] - torch.arange(len(ids))[:, None] % 4).long()
    return ids * mask, mask


def larger(model: nn.Module, factor: float) -> nn.Module:
    """Weights of an initialisation are small; with larger ones the curvature is not that of a constant."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter *= factor
    return model


def right(outputs: Any, targets: Any) -> tuple[int, int]:
    """Right ones and all, of class scores (N, C) or (N, T, C)."""
    known = targets >= 0
    return int(((outputs.argmax(-1) == targets) & known).sum()), int(known.sum())


def share(case: Case, one: Callable[[Any, Any], tuple[int, int]]) -> float:
    with torch.no_grad():
        found = [one(case.call(case.model.eval(), x), y) for x, y in case.batches]
    return sum(a for a, _ in found) / sum(b for _, b in found)


def accuracy(case: Case) -> float:
    return share(case, right)


def token_accuracy(case: Case) -> float:
    return share(case, lambda outputs, targets: right(outputs.logits, targets))


def next_token_accuracy(case: Case) -> float:
    return share(case, lambda outputs, targets: right(outputs.logits[:, :-1], targets[:, 1:]))


def none(case: Case) -> float:
    return float("nan")


def own_loss(outputs: Any, targets: Any) -> Tensor:
    return outputs.loss


def t5(layers: int, *, tied: bool, seed: int) -> Case:
    """From sequence to sequence: the network is given the labels and returns its loss. Its norms compute in float32."""
    torch.manual_seed(seed)
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=12, d_kv=3, d_ff=24, num_layers=layers, num_decoder_layers=layers, num_heads=4,
        decoder_start_token_id=0, tie_word_embeddings=tied,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    batches = []
    for rows, seed in ((5, 1), (3, 2)):
        ids, mask = padded(tokens(rows, 7, seed))
        labels = tokens(rows, 6, seed + 10)
        labels[::2, -2:] = -100
        batches.append(({"input_ids": ids, "attention_mask": mask, "labels": labels}, labels))
    return Case(model, own_loss, batches, (5, 3), named, token_accuracy, rounds=True, separate=False)


def gpt2() -> Case:
    """A causal language model whose labels are its inputs, shifted inside."""
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_positions=12, n_embd=12, n_layer=2, n_head=2, **NO_MARKS)
    model = larger(transformers.GPT2LMHeadModel(config), 4)
    ids = [tokens(6, 9, 1), tokens(4, 9, 2)]
    batches = [({"input_ids": each, "labels": each}, each) for each in ids]
    return Case(model, own_loss, batches, (6, 4), named, next_token_accuracy, rounds=True, separate=False)


def llama() -> Case:
    """A causal language model with a shifted loss of one's own, and a row for padding."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=12, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=16, pad_token_id=0,
    )  # fmt: skip
    model = larger(transformers.LlamaForCausalLM(config), 5)
    ids, mask = padded(tokens(8, 8, 3))

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        scores = outputs.logits[:, :-1].reshape(-1, VOCABULARY)
        return F.cross_entropy(scores, targets[:, 1:].reshape(-1), ignore_index=0)

    def found(outputs: Any, targets: Tensor) -> tuple[int, int]:
        return right(outputs.logits[:, :-1], targets[:, 1:].masked_fill(targets[:, 1:] == 0, -1))

    batches = [({"input_ids": ids, "attention_mask": mask}, ids)]
    return Case(
        model, loss, batches, (8,), named, lambda case: share(case, found), rounds=True, separate=False, likelihood=False
    )


def bert() -> Case:
    """A classifier of texts; the padding is not masked, so that its row of the embedding is part of the function."""
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=10, num_labels=3,
    )  # fmt: skip
    model = larger(transformers.BertForSequenceClassification(config), 5)
    ids, _ = padded(tokens(12, 8, 4))
    return Case(
        model, lambda outputs, y: F.cross_entropy(outputs.logits, y), [({"input_ids": ids}, classes(12, 3, 5))], (12,), named,
        token_accuracy,
    )  # fmt: skip


def bert_masked() -> Case:
    """A masked language model: the embedding with its row for padding is the last layer too."""
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=10,
    )  # fmt: skip
    model = larger(transformers.BertForMaskedLM(config), 5)
    ids, mask = padded(tokens(10, 8, 6))
    hidden = torch.rand(ids.shape, generator=torch.Generator().manual_seed(7)) < 0.3
    labels = ids.masked_fill(~hidden | (mask == 0), -100)

    def loss(outputs: Any, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.logits.transpose(1, 2), targets)

    batches = [({"input_ids": ids.masked_fill(hidden, 1), "attention_mask": mask}, labels)]
    return Case(model, loss, batches, (10,), named, token_accuracy, separate=False)


def lora() -> Case:
    """Low-rank adapters: only they are trained."""
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=12, n_embd=12, n_layer=2, n_head=2, num_labels=3, **NO_MARKS
    )
    base = larger(transformers.GPT2ForSequenceClassification(config), 5)
    adapters = LoraConfig(
        r=2, lora_alpha=4, lora_dropout=0.1, target_modules=["c_attn"], fan_in_fan_out=True, task_type="SEQ_CLS"
    )
    model = get_peft_model(base, adapters)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    ids, mask = padded(tokens(12, 8, 8))
    return Case(
        model, lambda outputs, y: F.cross_entropy(outputs.logits, y),
        [({"input_ids": ids, "attention_mask": mask}, classes(12, 3, 9))], (12,), named, token_accuracy,
    )  # fmt: skip


class Nodes(nn.Module):
    """Kipf and Welling's network of two convolutions on one graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GCNConv(7, 8), GCNConv(8, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(F.dropout(self.first(x, edge_index).relu(), training=self.training), edge_index)


def edges(nodes: int, number: int, seed: int) -> Tensor:
    found = torch.randint(nodes, (2, number), generator=torch.Generator().manual_seed(seed))
    return torch.cat([found, found.flip(0)], 1)


def gcn() -> Case:
    """Classes of some nodes of one graph; the others are not counted."""
    y = classes(30, 4, 11)
    y[20:] = -100
    batches = [((normal(30, 7, seed=10), edges(30, 45, 12)), y)]
    return Case(larger(Nodes(), 2), F.cross_entropy, batches, (30,), spread, accuracy, separate=False, rows=False)


class Molecules(nn.Module):
    """A value for each graph of a batch of graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = GCNConv(5, 6), nn.Linear(6, 1)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, size: Any = None) -> Tensor:
        return self.last(global_mean_pool(torch.tanh(self.first(x, edge_index)), batch, size)).squeeze(1)


def graph_losses(case: Case) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([(spread(case.model, x) - y).square().numpy() for x, y in case.batches])


def graphs() -> Case:
    """Regression on batches of graphs of several sizes; what is counted is graphs, not nodes."""
    batches, y = [], normal(9, seed=14)
    for a, b in ((0, 6), (6, 9)):
        made = [Data(x=normal(4 + i, 5, seed=20 + i), edge_index=edges(4 + i, 6, 40 + i)) for i in range(a, b)]
        joined = Batch.from_data_list(made)
        batches.append(((joined.x, joined.edge_index, joined.batch), y[a:b]))
    model, apart = larger(Molecules(), 2), {"separate": False, "rows": False, "samples": graph_losses}
    return Case(model, F.mse_loss, batches, (6, 3), spread, none, **apart)


def convnext() -> Case:
    model = ConvNeXt(in_chans=1, num_classes=4, depths=(1, 1, 1, 1), dims=(4, 6, 8, 10), ls_init_value=0.5, drop_path_rate=0.1)
    return Case(larger(model, 8), F.cross_entropy, [(normal(8, 1, 32, 32, seed=15), classes(8, 4, 16))], (8,), whole, accuracy)


def vision_transformer() -> Case:
    shape = {"img_size": 16, "patch_size": 8, "in_chans": 1, "embed_dim": 12, "depth": 1, "num_heads": 2, "mlp_ratio": 2}
    model = larger(VisionTransformer(num_classes=4, **shape), 3)
    return Case(model, F.cross_entropy, [(normal(9, 1, 16, 16, seed=30), classes(9, 4, 31))], (9,), whole, accuracy)


def mobilenetv3() -> Case:
    """Hardswish, and hardsigmoid in its squeeze and excitation, which autograd cannot differentiate twice."""
    blocks = [["ds_r1_k3_s2_e1_c8_se0.25_nre"], ["ir_r1_k3_s1_e2_c8", "ir_r1_k5_s2_e2_c12_se0.25"], ["cn_r1_k1_s1_c16"]]
    model = MobileNetV3(
        decode_arch_def(blocks), num_classes=4, in_chans=1, stem_size=8, num_features=16, act_layer=nn.Hardswish,
        se_layer=partial(SqueezeExcite, gate_layer="hard_sigmoid"),
    )  # fmt: skip
    _lively(model)
    return Case(
        model, F.cross_entropy, [(normal(12, 1, 16, 16, seed=17), classes(12, 4, 18))], (12,), whole, accuracy, twice=False
    )


def _lively(model: nn.Module) -> None:
    """Statistics that are not those of a new BatchNorm."""
    generator = torch.Generator().manual_seed(19)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


def pnet() -> Case:
    """The first network of MTCNN with the weights that it is shipped with: boxes and probabilities of a face."""

    def loss(outputs: tuple[Tensor, Tensor], targets: dict[str, Tensor]) -> Tensor:
        boxes, probabilities = (part.flatten(1) for part in outputs)
        return F.nll_loss(probabilities.clamp(min=1e-12).log(), targets["face"]) + 0.5 * F.mse_loss(boxes, targets["box"])

    images = normal(16, 3, 12, 12, seed=21).clamp(-1, 1)
    targets = {"face": classes(16, 2, 22), "box": 0.1 * normal(16, 4, seed=23)}
    return Case(
        PNet(pretrained=True), loss, [(images, targets)], (16,), whole,
        lambda case: share(case, lambda outputs, y: right(outputs[1].flatten(1), y["face"])), likelihood=False,
    )  # fmt: skip


def resnet18() -> Case:
    model = torchvision.models.resnet18(num_classes=5)
    _lively(model)
    return Case(model, F.cross_entropy, [(normal(4, 3, 32, 32, seed=24), classes(4, 5, 25))], (4,), whole, accuracy)


class Digits(lightning.LightningModule):
    def __init__(self, width: int = 10, lr: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.example_input_array = torch.zeros(1, 20)
        self.net = nn.Sequential(nn.Linear(20, width), nn.BatchNorm1d(width), nn.SiLU(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, index: int) -> Tensor:
        x, y = batch
        value = F.cross_entropy(self(x), y)
        self.log("loss", value)
        return value

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.hparams.lr)


def lightning_data() -> tuple[Any, Any]:
    return [(normal(n, 20, seed=s), classes(n, 3, s + 1)) for n, s in ((32, 26), (17, 28))], (32, 17)


def lightning_module() -> Case:
    batches, weights = lightning_data()
    return Case(larger(Digits(), 2), F.cross_entropy, batches, weights, whole, accuracy)


def lightning_plain() -> Case:
    """The network inside, after some steps of its own trainer."""
    module, (batches, weights) = Digits(), lightning_data()
    trainer = lightning.Trainer(
        max_steps=10, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batches[0]), batch_size=8))
    return Case(module.net, F.cross_entropy, batches, weights, whole, accuracy)


CASES: dict[str, Callable[[], Case]] = {
    "T5": partial(t5, 1, tied=True, seed=0),
    "T5 untied": partial(t5, 2, tied=False, seed=1),
    "GPT-2": gpt2,
    "Llama": llama,
    "BERT": bert,
    "BERT masked": bert_masked,
    "LoRA": lora,
    "GCN": gcn,
    "graphs": graphs,
    "ConvNeXt": convnext,
    "ViT": vision_transformer,
    "MobileNetV3": mobilenetv3,
    "PNet": pnet,
    "ResNet-18": resnet18,
    "Lightning module": lightning_module,
    "Lightning network": lightning_plain,
}
