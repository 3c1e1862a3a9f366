"""Loss and gradients of the same tiny model on the same pairs: ours, and the trainer of trl."""

import jax
import numpy as np
import pytest

from tests import tiny_run
from tests.cases import long_but
from tests.training import pairs_of_ids as world
from xlam_jax.models.config import ModelConfig
from xlam_jax.models.spec import state_dict_from_params
from xlam_jax.training.preference.config import ObjectiveConfig
from xlam_jax.training.preference.objective import dpo_objective, reference_logprobs
from xlam_jax.weights.hf_out import save_hf

CFG = ModelConfig("llama", 400, 32, 48, 2, 4, 2, 8, tie_embeddings=False)
FOUND = world.pairs(5, seed=3, vocab=400)
CASES = {  # our name, settings -> theirs
    "sigmoid": ({}, {"loss_types": ["sigmoid"]}),
    "hinge": ({"loss": "hinge"}, {"loss_types": ["hinge"]}),
    "ipo": ({"loss": "ipo"}, {"loss_types": ["ipo"]}),
    "robust": (
        {"loss": "robust", "label_smoothing": 0.1}, {"loss_types": ["robust"], "label_smoothing": 0.1},
    ),
    "normalised": ({"loss": "normalised"}, {"loss_types": ["sigmoid_norm"]}),
    "nca": ({"loss": "nca"}, {"loss_types": ["nca_pair"]}),
    "bco": ({"loss": "bco"}, {"loss_types": ["bco_pair"]}),
    "apo_zero": ({"loss": "apo_zero"}, {"loss_types": ["apo_zero"]}),
    "apo_down": ({"loss": "apo_down"}, {"loss_types": ["apo_down"]}),
    "ld_alpha": ({"ld_alpha": 0.3}, {"loss_types": ["sigmoid"], "ld_alpha": 0.3}),
}  # fmt: skip


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """(trainer, collated batch)."""
    reason = "trl, accelerate and datasets are needed: pip install trl"
    for name in ("torch", "accelerate", "datasets", "trl"):
        pytest.importorskip(name, reason=reason)
    import datasets
    import transformers
    from trl import DPOConfig, DPOTrainer
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    root = tmp_path_factory.mktemp("trl")
    tokenizer = tiny_run.make_tokenizer(root / "tokenizer")
    for name, seed in (("policy", 0), ("reference", 1)):
        save_hf(world.initial(CFG, seed), CFG, root / name, tokenizer=tokenizer)

    def load(name):
        return transformers.AutoModelForCausalLM.from_pretrained(root / name, dtype="float32")

    args = DPOConfig(
        output_dir=str(root / "out"), report_to=[], use_cpu=True, bf16=False, gradient_checkpointing=False,
        beta=0.5, per_device_train_batch_size=len(FOUND),
    )  # fmt: skip
    trainer = DPOTrainer(
        load("policy"), load("reference"), args=args,
        train_dataset=datasets.Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}] * 2),
        processing_class=transformers.AutoTokenizer.from_pretrained(root / "tokenizer"),
    )  # fmt: skip
    rows = [{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in FOUND]
    return trainer, DataCollatorForPreference(pad_token_id=0)(rows)


@pytest.fixture(scope="module")
def ours():
    """Settings -> (loss, gradients by their names in a Hugging Face checkpoint), with a shared prompt."""
    model = world.model("shared", CFG)
    batch = world.batch(FOUND, [3, 2], "shared", 96)
    batch = batch._replace(reference=jax.jit(reference_logprobs(model))(world.initial(CFG, 1), batch))

    def run(settings):
        objective = dpo_objective(model, ObjectiveConfig(kind="dpo", beta=0.5, **settings))
        loss = jax.jit(jax.value_and_grad(lambda p: objective(p, batch)[0] / len(FOUND)))
        value, grads = loss(world.initial(CFG))
        return float(value), state_dict_from_params(grads, CFG)

    return run


@pytest.mark.parametrize("name", long_but(["sigmoid", "ipo", "bco", "apo_down", "ld_alpha"], CASES))
def test_equal_to_trl(name, theirs, ours):
    trainer, inputs = theirs
    mine, wanted = CASES[name]
    for key, value in {"loss_weights": [1.0], "label_smoothing": 0.0, "ld_alpha": None, **wanted}.items():
        assert hasattr(trainer, key)
        setattr(trainer, key, value)
    trainer.model.zero_grad()
    loss = trainer._compute_loss(trainer.model, dict(inputs), return_outputs=False)
    loss.backward()
    value, grads = ours(mine)
    assert value == pytest.approx(loss.item(), abs=1e-5, rel=1e-5)
    for key, parameter in trainer.model.named_parameters():
        np.testing.assert_allclose(grads[key], parameter.grad.numpy(), atol=2e-5, rtol=1e-3, err_msg=key)
    norms = [float(np.abs(g).max()) for g in grads.values()]
    assert max(norms) > 1e-3
